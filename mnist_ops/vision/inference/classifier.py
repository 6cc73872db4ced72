"""Classify digits with a released bundle: ONNX Runtime on CPU, torch on CUDA.

torch is imported only after CUDA is chosen: the import takes seconds, and a CPU task does not need it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.data.examples import CLASSES, require_digits
from mnist_ops.vision.inference.bundle import MODEL, WEIGHTS, Bundle, Card, read_bundle
from mnist_ops.vision.inference.onnx_backend import Forward, onnx_forward
from mnist_ops.vision.inference.softmax import softmax

# Digits in each call of the network. On CPU, larger slices are no faster and take more memory.
CPU_SLICE, _CUDA_SLICE = 64, 65_536
# Rounding differs between processors; a wrong mean or weight changes the outputs far more than this.
_LOGIT_TOLERANCE, _PROBABILITY_TOLERANCE, _SCORE_TOLERANCE = 2e-3, 1e-4, 2e-2


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The predictions for N pictures.

    Attributes:
        probabilities: float32 (N, 10), each row sums to 1 ± 1e-6.
        scores: float32 (N,), higher for less like a digit.
        not_a_digit: bool (N,), whether the score is above the bundle's threshold.
    """

    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]
    not_a_digit: NDArray[np.bool_]


class Classifier:
    """A loaded bundle. Its methods may be called from several threads at once.

    On CPU each call runs in the thread that makes it: parallel calls take a fifth less CPU time than one
    call that divides every operation among all CPUs.

    Attributes:
        device: "cpu" or "cuda".
        abstention: scores pictures by how unlike a digit they are.
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
        """The names of the classes by index."""
        return self.card.labels

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's outputs float32 (N, 10) for digits uint8 (N, 28, 28), ink 255 on 0.

        Raises:
            Permanent: the images have another shape or type, or an output is not finite.
        """
        require_digits(images)
        slices = [
            self._forward(np.ascontiguousarray(images[start : start + self._slice]))
            for start in range(0, len(images), self._slice)
        ]
        logits = np.concatenate(slices) if slices else np.empty((0, CLASSES), np.float32)
        if logits.shape != (len(images), CLASSES):
            raise Permanent(f"{self.digest}: {len(images)} digits gave logits of shape {logits.shape}")
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
        """The probabilities and whether each picture is a digit, from one pass of the network.

        Raises:
            Permanent: as `logits`.
        """
        logits = self.logits(images)
        scores = self.abstention.scores(images, logits)
        probabilities = softmax(logits, self.card.temperature)
        return Predictions(probabilities, scores, scores > self.abstention.threshold)


def load_classifier(folder: Path, expected_digest: str | None = None, device: str = "cpu") -> Classifier:
    """Read and verify a bundle, load its model, and check it on the golden samples.

    Args:
        folder: the bundle's folder.
        expected_digest: the digest in the registry or the manifest.
        device: "cpu", "cuda", or "auto": CUDA if there is a GPU.

    Raises:
        ObjectMissing, Damaged, Permanent: as `read_bundle`; Permanent also if there is no such
            device or the model's outputs for the golden samples are not the recorded ones.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise Permanent(f"device {device!r} is not one of auto, cpu, cuda")
    bundle = read_bundle(folder, expected_digest)
    forward = None if device == "cpu" else _cuda_forward(bundle)
    if forward is not None:
        classifier = Classifier(bundle, "cuda", forward)
    elif device == "cuda":
        raise Permanent("device cuda was requested and this machine has none")
    else:
        classifier = Classifier(bundle, "cpu", onnx_forward(bundle.files[MODEL]))
    check_golden(classifier, bundle)
    return classifier


def check_golden(classifier: Classifier, bundle: Bundle) -> None:
    """Compare the outputs of the loaded model for the golden samples with the recorded ones.

    Raises:
        Permanent: they differ, so the weights, the preprocessing, the temperature, the label table or the
            abstention are not the released ones.
    """
    golden = bundle.golden
    if golden.labels != bundle.card.labels:
        raise Permanent(f"{bundle.digest}: the card's label table is not that of the golden samples")
    logits = classifier.logits(golden.images)
    difference = float(np.abs(logits - golden.logits).max())
    # "not <=" instead of ">", so that a NaN among the recorded values fails as well.
    if not difference <= _LOGIT_TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise Permanent(f"{bundle.digest}: the golden samples' logits differ by {difference:.2g}")
    probabilities = softmax(logits, bundle.card.temperature)
    difference = float(np.abs(probabilities - golden.probabilities).max())
    if not difference <= _PROBABILITY_TOLERANCE:
        raise Permanent(f"{bundle.digest}: the golden samples' probabilities differ by {difference:.2g}")
    scores = bundle.abstention.scores(golden.images, logits)
    difference = float(np.abs(scores - golden.scores).max())
    if not difference <= _SCORE_TOLERANCE * max(1.0, float(np.abs(scores).max())):
        raise Permanent(f"{bundle.digest}: the golden samples' scores differ by {difference:.2g}")


def _cuda_forward(bundle: Bundle) -> Forward | None:
    """The network in torch on CUDA; None if there is no GPU, which is found without importing torch."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    from mnist_ops.vision.models.torch_backend import cuda_forward  # noqa: PLC0415 - imports torch

    architecture = bundle.card.architecture
    return cuda_forward(architecture.network, bundle.files[WEIGHTS], architecture.kernel_sizes)
