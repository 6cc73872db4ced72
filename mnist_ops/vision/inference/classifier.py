"""Classify digits with a released bundle: ONNX Runtime on CPU, torch on CUDA.

torch is imported only once CUDA is chosen: it takes seconds, and a CPU task does not need it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.data.examples import CLASSES, require_digits
from mnist_ops.vision.inference.bundle import MODEL, WEIGHTS, Bundle, Card, read_bundle

if TYPE_CHECKING:
    import onnxruntime

Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# Digits at once. On CPU more of them gain nothing, and their activations take memory.
CPU_SLICE, _CUDA_SLICE = 64, 65_536
# What another processor may change in the last digits; a wrong mean or weight changes far more.
_LOGIT_TOLERANCE, _PROBABILITY_TOLERANCE, _SCORE_TOLERANCE = 2e-3, 1e-4, 2e-2


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a bundle says of N pictures.

    Attributes:
        probabilities: float32 (N, 10), each row sums to 1 ± 1e-6.
        scores: float32 (N,), how unlike a digit each is.
        not_a_digit: bool (N,), where the score is over the bundle's threshold.
    """

    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]
    not_a_digit: NDArray[np.bool_]


class Classifier:
    """A loaded bundle, ready to classify. Its methods may be called from several threads at once.

    On CPU each call runs in the thread it comes from: calls side by side take a fifth less of the cores than
    one call that shares every operation among them.

    Attributes:
        card: what the model is.
        digest: of the bundle.
        device: "cpu" or "cuda".
        abstention: what tells digits from other pictures.
    """

    def __init__(self, bundle: Bundle, device: str, forward: Forward) -> None:
        self.card: Card = bundle.card
        self.digest = bundle.digest
        self.device = device
        self.abstention = bundle.abstention
        self._forward = forward
        self._slice = _CUDA_SLICE if device == "cuda" else CPU_SLICE

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by index."""
        return self.card.labels

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's raw outputs (N, 10) for digits uint8 (N, 28, 28), ink 255 on 0.

        Raises:
            Permanent: the images are of another shape or type, or an output is not finite.
        """
        require_digits(images)
        slices = [
            self._forward(np.ascontiguousarray(images[start : start + self._slice]))
            for start in range(0, len(images), self._slice)
        ]
        logits = np.concatenate(slices) if slices else np.empty((0, CLASSES), np.float32)
        if logits.shape != (len(images), CLASSES):
            raise Permanent(f"{self.digest}: {len(images)} digits gave outputs of shape {logits.shape}")
        if not np.isfinite(logits).all():
            raise Permanent(f"{self.digest}: an output of the network is not finite")
        return logits

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probabilities (N, 10) of digits uint8 (N, 28, 28); each row sums to 1 ± 1e-6.

        Raises:
            Permanent: as `logits`.
        """
        return softmax(self.logits(images), self.card.temperature)

    def predict(self, images: NDArray[np.uint8]) -> Predictions:
        """Probabilities, and whether each picture is a digit at all, from one pass of the network.

        Raises:
            Permanent: as `logits`.
        """
        logits = self.logits(images)
        scores = self.abstention.scores(images, logits)
        probabilities = softmax(logits, self.card.temperature)
        return Predictions(probabilities, scores, scores > self.abstention.threshold)


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Probabilities (N, C) of logits (N, C), computed in float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def load_classifier(folder: Path, expected_digest: str | None = None, device: str = "cpu") -> Classifier:
    """Load a bundle, verify it, and check it against its golden samples.

    Args:
        folder: the bundle.
        expected_digest: as the registry or the manifest has it.
        device: "cpu", "cuda", or "auto": CUDA when there is a card.

    Raises:
        ObjectMissing, Damaged, Permanent: as `read_bundle`; Permanent also where the device is not
            there or the golden samples do not come out as noted.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise Permanent(f"device {device!r} is not one of auto, cpu, cuda")
    bundle = read_bundle(folder, expected_digest)
    forward = None if device == "cpu" else _cuda_forward(bundle)
    if forward is not None:
        classifier = Classifier(bundle, "cuda", forward)
    elif device == "cuda":
        raise Permanent("device cuda is asked for and this machine has none")
    else:
        classifier = Classifier(bundle, "cpu", onnx_forward(bundle.files[MODEL]))
    check_golden(classifier, bundle)
    return classifier


def check_golden(classifier: Classifier, bundle: Bundle) -> None:
    """Compare the golden samples with what the loaded model says of them.

    Raises:
        Permanent: they differ: the weights, the preprocessing, the temperature, the label table or the
            abstention are not those that were released.
    """
    golden = bundle.golden
    if golden.labels != bundle.card.labels:
        raise Permanent(f"{bundle.digest}: the card's label table is not that of the golden samples")
    logits = classifier.logits(golden.images)
    off = float(np.abs(logits - golden.logits).max())
    # Written so that a NaN among the expected values fails as well.
    if not off <= _LOGIT_TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise Permanent(f"{bundle.digest}: the golden samples' logits are off by {off:.2g}")
    probabilities = softmax(logits, bundle.card.temperature)
    off = float(np.abs(probabilities - golden.probabilities).max())
    if not off <= _PROBABILITY_TOLERANCE:
        raise Permanent(f"{bundle.digest}: the golden samples' probabilities are off by {off:.2g}")
    scores = bundle.abstention.scores(golden.images, logits)
    off = float(np.abs(scores - golden.scores).max())
    if not off <= _SCORE_TOLERANCE * max(1.0, float(np.abs(scores).max())):
        raise Permanent(f"{bundle.digest}: the golden samples' scores are off by {off:.2g}")


def onnx_forward(model: bytes) -> Forward:
    """Run an exported model in ONNX Runtime on CPU: uint8 (N, 28, 28) to logits float32 (N, 10).

    Each call runs in the thread it comes from.

    Raises:
        Permanent: it is no such model.
    """
    session = _session(model)
    takes = [(value.name, value.type, value.shape[1:]) for value in session.get_inputs()]
    if takes != [("images", "tensor(uint8)", [28, 28])]:
        raise Permanent(f"the model must take images uint8 (N, 28, 28), not {takes}")
    if [value.name for value in session.get_outputs()] != ["logits"]:
        raise Permanent("the model must give one output, logits")

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
    except Exception as error:  # its errors share no base class of their own
        raise Permanent(f"ONNX Runtime refuses the model: {error}") from error


def _cuda_forward(bundle: Bundle) -> Forward | None:
    """The network in torch on CUDA, or None where there is no card: found without importing torch."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    from mnist_ops.vision.models.torch_backend import cuda_forward  # noqa: PLC0415 - imports torch

    architecture = bundle.card.architecture
    return cuda_forward(architecture.network, bundle.files[WEIGHTS], architecture.kernel_sizes)
