"""MNIST Ops: Airflow batch inference for the images that MongoDB records refer to by URL.

The floors; imports point down only, and import-linter holds them:

    dags/                    declarations: what runs when, with which parameters
    plugins/mnist_airflow/   operators, windows, assets, connections to adapters
    mnist_ops.cli            the command line: every step also runs without Airflow
    mnist_ops.wiring         settings and clients become adapters
    mnist_ops.steps | mnist_ops.adapters | mnist_ops.local    meet only through ports
    mnist_ops.vision         compute: decoders, numpy, torch, ONNX Runtime
    mnist_ops.domain         plain values and rules: standard library only
"""

__version__ = "0.1.0"
