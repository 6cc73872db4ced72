"""MNIST Ops: Airflow batch inference for the images that MongoDB records refer to by URL.

What people import, each from here:

    load_classifier(folder)       a released bundle, verified and ready to classify
    decode(payload)               an encoded image as a digit, uint8 (28, 28), ink = 255
    Pipeline(adapters)            every step of the pipeline as a method
    pipeline_of_environment(env)  the pipeline over the connections of the environment
    Settings                      the MNIST_OPS_* settings
    LabelTable, DIGITS            the names of the classes, by index; those of the ten digits
    MnistOpsError                 the root of all errors: Transient (retry), Permanent (fail now) and
                                  ItemRejected (record it and go on)

For example, to classify one image file:

    classifier = load_classifier(Path("bundle"))
    predictions = classifier.predict(decode(Path("digit.png").read_bytes())[None])
    probabilities = dict(zip(classifier.labels, predictions.probabilities[0]))

`import mnist_ops` itself loads no other module: each name above is imported when it is first used.

The layers; imports point down only, and import-linter enforces it:

    dags/                    declarations: what runs when, with which parameters
    plugins/mnist_airflow/   operators, windows, assets, Airflow's connections to adapters
    mnist_ops.cli            the command line: every step also runs without Airflow
    mnist_ops.serving        pages and the REST API, inside Airflow or alone
    mnist_ops.pipeline       the steps, bound to their ports once
    mnist_ops.wiring         settings and connections become adapters
    mnist_ops.settings, mnist_ops.connections                 read the environment
    mnist_ops.steps | adapters | local                        depend on each other only through ports
    mnist_ops.vision         compute: decoders, numpy, torch, ONNX Runtime
    mnist_ops.domain         plain values and rules: standard library only
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ops.domain.errors import ItemRejected, MnistOpsError, Permanent, Transient
    from mnist_ops.domain.labels import DIGITS, LabelTable
    from mnist_ops.pipeline import Pipeline, pipeline_of_environment
    from mnist_ops.settings import Settings
    from mnist_ops.vision.inference.classifier import load_classifier
    from mnist_ops.vision.preprocessing.decode import decode

__all__ = [
    "DIGITS",
    "ItemRejected",
    "LabelTable",
    "MnistOpsError",
    "Permanent",
    "Pipeline",
    "Settings",
    "Transient",
    "__version__",
    "decode",
    "load_classifier",
    "pipeline_of_environment",
]

__version__ = "0.1.0"

_MODULES = {
    "DIGITS": "mnist_ops.domain.labels",
    "ItemRejected": "mnist_ops.domain.errors",
    "LabelTable": "mnist_ops.domain.labels",
    "MnistOpsError": "mnist_ops.domain.errors",
    "Permanent": "mnist_ops.domain.errors",
    "Pipeline": "mnist_ops.pipeline",
    "Settings": "mnist_ops.settings",
    "Transient": "mnist_ops.domain.errors",
    "decode": "mnist_ops.vision.preprocessing.decode",
    "load_classifier": "mnist_ops.vision.inference.classifier",
    "pipeline_of_environment": "mnist_ops.pipeline",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
