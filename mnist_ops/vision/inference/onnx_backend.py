"""Run an exported network in ONNX Runtime on CPU."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent

if TYPE_CHECKING:
    import onnxruntime

Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def onnx_forward(model: bytes) -> Forward:
    """The model as a function from digits uint8 (N, 28, 28) to logits float32 (N, 10).

    Each call runs in the thread that makes it.

    Raises:
        Permanent: ONNX Runtime rejects the model, or its inputs or outputs are different ones.
    """
    session = _session(model)
    inputs = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
    if inputs != [("images", "tensor(uint8)", [28, 28])]:
        raise Permanent(f"the model's input must be images uint8 (N, 28, 28), not {inputs}")
    if [value.name for value in session.get_outputs()] != ["logits"]:
        raise Permanent("the model must have one output, logits")

    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"images": images})[0]
        return logits

    return forward


def _session(model: bytes) -> "onnxruntime.InferenceSession":
    import onnxruntime  # noqa: PLC0415 - half a second that only classifying needs

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        raise Permanent(f"ONNX Runtime rejects the model: {error}") from error
