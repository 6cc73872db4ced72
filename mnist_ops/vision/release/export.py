"""Export a trained network as a bundle: this needs torch, loading a bundle (inference/bundle.py) does not."""

import importlib.metadata
import logging
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.labels import DIGITS, LabelTable
from mnist_ops.vision.data.examples import CLASSES, SIDE, require_digits
from mnist_ops.vision.data.minimums import MIN_GOLDEN
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.inference.abstention import Abstention
from mnist_ops.vision.inference.bundle import (
    ABSTENTION,
    CARD,
    GOLDEN,
    MODEL,
    WEIGHTS,
    AbstentionSpec,
    Architecture,
    Card,
    Golden,
    golden_bytes,
)
from mnist_ops.vision.inference.onnx_backend import onnx_forward
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.architectures import parameter_count
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.models.weights import network_from
from mnist_ops.vision.preprocessing.normalize import PREPROCESSING_VERSION

OPSET = 20  # supported since ONNX Runtime 1.17
PARITY = 1e-5  # largest difference between probabilities of torch and ONNX Runtime
_GOLDEN_HARD, _GOLDEN_SPREAD = 12, 20  # golden samples: the least confident, and some evenly spaced
_EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir")  # loggers
_ENVIRONMENT = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow", "safetensors")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        dataset_digest: the digest of its data set.
        training_digest: the digest of its training: data set, config and weights.
        abstention: the test for images that are not digits, fitted on the data set's folds.
        labels: the label table of the data set.
        temperature: divides the logits before the softmax; 1 without calibration.
    """

    dataset_digest: str
    training_digest: str
    abstention: Abstention
    labels: LabelTable = DIGITS
    temperature: float = 1.0


def write_bundle(
    folder: Path,
    trained: TrainedModel,
    golden_images: NDArray[np.uint8],
    metrics: Mapping[str, Evaluation],
    provenance: Provenance,
) -> Card:
    """Write a trained network as a bundle, the card last.

    Args:
        folder: a folder that is empty or does not exist.
        trained: the network.
        golden_images: uint8 (N, 28, 28), N at least 20: digits of the validation fold; some of them become
            golden samples.
        metrics: the evaluation by the name of the fold.
        provenance: where the model comes from.

    Raises:
        Permanent: the folder is not empty, there are too few golden images, or ONNX Runtime and torch
            differ by more than 1e-5 on a golden sample.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Permanent(f"{folder}: the folder is not empty; a bundle needs an empty one")
    network = network_from(trained.config.network, trained.weights, trained.config.kernel_sizes)
    golden = _golden(trained, golden_images, provenance)
    model = export_onnx(DigitClassifier(network).eval())
    _require_parity(model, golden, provenance.temperature)
    files = {
        ABSTENTION: provenance.abstention.to_bytes(),
        GOLDEN: golden_bytes(golden),
        MODEL: model,
        WEIGHTS: trained.weights,
    }
    card = Card(
        name=trained.config.network,
        architecture=Architecture(
            network=trained.config.network,
            classes=CLASSES,
            parameters=parameter_count(network),
            kernel_sizes=trained.config.kernel_sizes,
        ),
        hyperparameters=trained.config.model_dump(mode="json"),
        preprocessing_version=PREPROCESSING_VERSION,
        labels=provenance.labels.names,
        temperature=provenance.temperature,
        abstention=AbstentionSpec(threshold=provenance.abstention.threshold),
        metrics=dict(metrics),
        dataset_digest=provenance.dataset_digest,
        training_digest=provenance.training_digest,
        environment=_environment(),
        files={name: sha256_hex(content) for name, content in files.items()},
    )
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / CARD).write_bytes(card.to_json())
    return card


def export_onnx(model: DigitClassifier) -> bytes:
    """Export a network with its preprocessing to ONNX: images uint8 (N, 28, 28) to logits float32 (N, 10)."""
    sample = torch.zeros((2, SIDE, SIDE), dtype=torch.uint8)
    with _silent_exporter():
        program = torch.onnx.export(
            model,
            (sample,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise Permanent("torch exported nothing")
    exported = program.model_proto
    _strip(exported)
    onnx.checker.check_model(exported, full_check=True)
    content: bytes = exported.SerializeToString(deterministic=True)
    return content


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's metadata: it has the path of the source, so the bytes would differ by machine."""
    graph = model.graph
    parts = (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _silent_exporter() -> Iterator[None]:
    """Silence warnings and logs of the exporter about its own internals."""
    loggers = [logging.getLogger(name) for name in _EXPORTERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _golden(trained: TrainedModel, candidates: NDArray[np.uint8], provenance: Provenance) -> Golden:
    """Choose the least confident candidates, which small changes affect most, and evenly spaced ones."""
    require_digits(candidates)
    if len(candidates) < MIN_GOLDEN:
        raise Permanent(f"{len(candidates)} golden images; a bundle needs at least {MIN_GOLDEN}")
    logits = trained_logits(trained, candidates)
    confidence = softmax(logits, provenance.temperature).max(axis=1)
    spread = np.linspace(0, len(candidates) - 1, _GOLDEN_SPREAD).round().astype(np.int64)
    chosen = np.union1d(np.argsort(confidence, kind="stable")[:_GOLDEN_HARD], spread)
    images = candidates[chosen]
    logits = trained_logits(trained, images)
    return Golden(
        images=images,
        logits=logits,
        probabilities=softmax(logits, provenance.temperature),
        scores=provenance.abstention.scores(images, logits),
        labels=provenance.labels.names,
    )


def _require_parity(model: bytes, golden: Golden, temperature: float) -> None:
    probabilities = softmax(onnx_forward(model)(golden.images), temperature)
    difference = float(np.abs(probabilities - golden.probabilities).max())
    if not difference <= PARITY:  # also refuses NaN
        raise Permanent(f"ONNX Runtime and torch differ by {difference:.2g} on the golden samples")


def _environment() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _ENVIRONMENT}
    return {"python": platform.python_version(), **versions}
