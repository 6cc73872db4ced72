"""Whether a picture is a digit at all: a score, and the threshold that keeps 95 % of digits under it.

A network must choose among ten classes whatever it sees. Two things betray a picture that is none of
them, and the score adds both:

- doubt: the energy of the logits, -log sum exp. It finds letters. Noise and patterns it misses: a
  network may be very sure of them. So more certainty than a usual digit's counts for nothing.
- distance: how far the picture's shape, seen coarsely, lies from the digits of the class that the
  network chose, as a Mahalanobis distance. It finds noise, patterns, photographs and blank pictures.

Both are measured on a scale on which the validation fold's median digit has 0 and its 95th percentile 1.
The shape is seen coarsely on purpose: fine details of tone would tell how a picture was scanned or drawn,
not what it shows, and a digit from another scanner would be refused.

Sources: W. Liu, X. Wang, J. Owens and Y. Li, "Energy-based out-of-distribution detection", 2020;
K. Lee, K. Lee, H. Lee and J. Shin, "A simple unified framework for detecting out-of-distribution samples
and adversarial attacks", 2018 (there the distance is of the network's features).
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.data.examples import CLASSES, SIDE, Examples, require_digits
from mnist_ops.vision.inference.npz import arrays_of, npz_bytes

KEPT = 0.95  # the share of the validation fold's digits at or under the threshold

_CELL = 4  # pixels of a cell's side: the shape is the mean ink of 7 by 7 cells
_CELLS = SIDE // _CELL
_FEATURES = _CELLS**2 + 2  # the cells, and how much the ink changes across and down
_DISTANCE_WEIGHT = 0.75  # of the distance, against the doubt
_FLOOR = 3e-4  # added to the variances: a cell that no digit of a class inks must not forbid one that does
_BORROWED = 51  # how many examples of its own the covariance over all classes counts for in each class
_SLICE = 8_192  # digits at once, so that memory does not grow with the fold

_SHAPES = {
    "means": (CLASSES, _FEATURES),
    "whitening": (CLASSES, _FEATURES, _FEATURES),
    "scales": (2, 2),
    "threshold": (),
}


@dataclass(frozen=True, slots=True, eq=False)
class Abstention:
    """What tells digits from other pictures.

    Attributes:
        means: float32 (10, 51), of the features of each class's training digits.
        whitening: float32 (10, 51, 51): the distance of features x from class c is
            |(x - means[c]) @ whitening[c]|.
        scales: float64 (2, 2): of the energy and of the distance, the validation digits' median, and
            from there to their 95th percentile.
        threshold: a picture with a higher score is not a digit.

    Raises:
        Permanent: an array is of another shape, or a number is not finite.
    """

    means: NDArray[np.float32]
    whitening: NDArray[np.float32]
    scales: NDArray[np.float64]
    threshold: float

    def __post_init__(self) -> None:
        for name, shape in _SHAPES.items():
            _require_reals(name, np.asarray(getattr(self, name)), shape)
        if not (self.scales[:, 1] > 0).all():
            raise Permanent("abstention: a scale is not positive")

    def scores(self, images: NDArray[np.uint8], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """How unlike a digit each picture is.

        Args:
            images: uint8 (N, 28, 28), ink 255 on 0.
            logits: (N, 10), of the network whose logits it was fitted on, not divided by a temperature.

        Returns:
            float32 (N,), higher for less like a digit; 95 % of digits are at or under the threshold.
        """
        require_digits(images)
        distances = _distances(images, logits.argmax(axis=1), self.means, self.whitening)
        measures = np.stack([_energy(logits), distances], axis=1)
        doubt, distance = ((measures - self.scales[:, 0]) / self.scales[:, 1]).T
        scores: NDArray[np.float32] = (doubt.clip(min=0) + _DISTANCE_WEIGHT * distance).astype(np.float32)
        return scores

    def to_bytes(self) -> bytes:
        """As the bytes of abstention.npz: the same for the same numbers."""
        return npz_bytes({name: np.asarray(getattr(self, name)) for name in _SHAPES})

    @classmethod
    def of_bytes(cls, content: bytes) -> Self:
        """Read what `to_bytes` gave. Nothing is unpickled.

        Raises:
            Permanent: it is something else.
        """
        arrays = arrays_of(content, _SHAPES)
        for name, shape in _SHAPES.items():
            _require_reals(name, arrays[name], shape)
        return cls(
            arrays["means"].astype(np.float32),
            arrays["whitening"].astype(np.float32),
            arrays["scales"].astype(np.float64),
            float(arrays["threshold"].astype(np.float64)),
        )


def fit_abstention(
    training: Examples, validation_images: NDArray[np.uint8], validation_logits: NDArray[np.float32]
) -> Abstention:
    """Learn what digits look like, and set the threshold where 95 % of the validation fold are kept.

    No picture that is not a digit takes part in it.

    Args:
        training: the train fold, for the shapes of the classes.
        validation_images: uint8 (N, 28, 28), of the validation fold, for scales and threshold.
        validation_logits: (N, 10), what the network says of them.

    Raises:
        Permanent: a fold is empty.
    """
    if not len(training) or not len(validation_images):
        raise Permanent("abstention cannot be fitted: the training or the validation fold is empty")
    means, whitening = _shapes(training)
    distances = _distances(validation_images, validation_logits.argmax(axis=1), means, whitening)
    middle, high = np.quantile([_energy(validation_logits), distances], [0.5, KEPT], axis=1)
    # A fold of one digit, or of equal ones, has no spread.
    scales = np.stack([middle, (high - middle).clip(min=1e-6)], axis=1)
    unset = Abstention(means, whitening, scales, threshold=0.0)
    scores = unset.scores(validation_images, validation_logits)
    return replace(unset, threshold=float(np.quantile(scores, KEPT, method="inverted_cdf")))


def _require_reals(name: str, values: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if values.dtype.kind != "f" or values.shape != shape:
        raise Permanent(f"abstention: {name} must be real {shape}, not {values.dtype} {values.shape}")
    if not np.isfinite(values.astype(np.float64)).all():
        raise Permanent(f"abstention: a number of {name} is not finite")


def _energy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,): minus the logarithm of the summed exponentials of logits (N, 10)."""
    exact = logits.astype(np.float64)
    largest = exact.max(axis=1)
    energy: NDArray[np.float64] = -largest - np.log(np.exp(exact - largest[:, None]).sum(axis=1))
    return energy


def _distances(
    images: NDArray[np.uint8],
    classes: NDArray[np.intp],
    means: NDArray[np.float32],
    whitening: NDArray[np.float32],
) -> NDArray[np.float64]:
    """(N,): how far each picture's features lie from the digits of its class."""
    distances = np.empty(len(images))
    for start in range(0, len(images), _SLICE):
        features = _features(images[start : start + _SLICE])
        chosen = classes[start : start + _SLICE]
        # Not np.unique, whose first call imports numpy.ma: 18 ms of every task.
        for label in np.flatnonzero(np.bincount(chosen, minlength=CLASSES)):
            of_class = chosen == label
            off = (features[of_class] - means[label]) @ whitening[label]
            distances[start : start + _SLICE][of_class] = np.sqrt(np.einsum("ij,ij->i", off, off))
    return distances


def _features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 51): the mean ink, 0 to 1, of 49 cells, and the logarithm of the mean step across and down."""
    # Whole numbers up to here: eight times as fast as means over the axes, and the same to the last bit.
    rows = images.reshape(-1, _CELLS, _CELL, SIDE)
    columns = sum(rows[:, :, row].astype(np.uint16) for row in range(_CELL))
    columns = np.asarray(columns).reshape(-1, _CELLS, _CELLS, _CELL)
    ink = np.asarray(sum(columns[..., column] for column in range(_CELL)))
    cells = ink.reshape(-1, _CELLS**2).astype(np.float32) / np.float32(_CELL**2) / 255
    across = _mean_step(images[:, :, 1:], images[:, :, :-1])
    down = _mean_step(images[:, 1:], images[:, :-1])
    # An empty picture has no steps; weighed so that they vary about as much as a cell does.
    rough = 0.3 * np.log(np.stack([across, down], axis=1) / 255 + 0.005)
    return np.concatenate([cells, rough], axis=1, dtype=np.float32)


def _mean_step(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N,): the mean difference of two uint8 (N, H, W), grey level by grey level."""
    _, height, width = one.shape
    steps = (np.maximum(one, other) - np.minimum(one, other)).reshape(-1, height * width)
    sums: NDArray[np.float32] = steps.sum(axis=1, dtype=np.uint32).astype(np.float32)
    return sums / np.float32(height * width)


def _shapes(training: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means (10, 51) and whitening matrices (10, 51, 51) of the classes' features."""
    counts = np.bincount(training.labels, minlength=CLASSES).astype(np.float64)
    sums, squares = np.zeros((CLASSES, _FEATURES)), np.zeros((CLASSES, _FEATURES, _FEATURES))
    for start in range(0, len(training), _SLICE):
        features = _features(training.images[start : start + _SLICE]).astype(np.float64)
        labels = training.labels[start : start + _SLICE]
        for label in np.unique(labels):
            of_class = features[labels == label]
            sums[label] += of_class.sum(axis=0)
            squares[label] += of_class.T @ of_class
    middle = sums.sum(axis=0) / counts.sum()
    spread = squares.sum(axis=0) / counts.sum() - np.outer(middle, middle)
    # A class without examples is any digit.
    means = np.where(counts[:, None] > 0, sums / counts.clip(min=1)[:, None], middle)
    scatter = squares - counts[:, None, None] * (means[:, :, None] * means[:, None, :])
    covariances = (scatter + _BORROWED * spread) / (counts + _BORROWED)[:, None, None]
    covariances += _FLOOR * np.eye(_FEATURES)
    # With C = L L', the distance of x is |L⁻¹ x|.
    whitening = np.linalg.inv(np.linalg.cholesky(covariances)).transpose(0, 2, 1)
    return means.astype(np.float32), np.ascontiguousarray(whitening, dtype=np.float32)
