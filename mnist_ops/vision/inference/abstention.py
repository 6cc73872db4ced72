"""Detect pictures that are not digits: a score, and a threshold that keeps 95 % of the digits.

A network chooses one of ten classes for any picture. The score adds two signs that a picture belongs to none
of them (out-of-distribution detection):

- doubt: the energy of the logits, -log sum exp. It detects letters. It misses noise and patterns, because a
  network may be very certain of them; so a certainty above that of the median digit does not lower the score.
- distance: the Mahalanobis distance between coarse features of the picture and those of the digits of the
  predicted class. It detects noise, patterns, photographs and blank pictures.

Both are scaled so that the validation fold's median is 0 and its 95th percentile is 1. The features are
coarse on purpose: fine details of tone depend on how a picture was scanned or drawn, not on what it shows,
and a digit from another scanner would be flagged.

Sources: W. Liu, X. Wang, J. Owens and Y. Li, "Energy-based out-of-distribution detection", 2020;
K. Lee, K. Lee, H. Lee and J. Shin, "A simple unified framework for detecting out-of-distribution samples
and adversarial attacks", 2018 (there the distance is of the network's features).
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.data.examples import CLASSES, SIDE, Examples, require_digits
from mnist_ops.vision.inference.npz import npz_bytes, read_npz

KEPT = 0.95  # the share of the validation fold's digits with a score not above the threshold

_CELL = 4  # pixels of a cell's side; the features are the mean ink of 7 by 7 cells
_CELLS = SIDE // _CELL
_FEATURES = _CELLS**2 + 2  # and the roughness across and down
_DISTANCE_WEIGHT = 0.75  # of the distance; the doubt has 1
_VARIANCE_FLOOR = 3e-4  # added, so that ink in a cell that is empty in all digits of a class is possible
_SHRINKAGE = 51  # examples; the weight of the covariance over all classes in the covariance of each class
_SLICE = 8_192  # digits at a time, so that memory does not grow with the fold

_SHAPES = {
    "means": (CLASSES, _FEATURES),
    "whitening": (CLASSES, _FEATURES, _FEATURES),
    "scales": (2, 2),
    "threshold": (),
}


@dataclass(frozen=True, slots=True, eq=False)
class Abstention:
    """A detector of pictures that are not digits.

    Attributes:
        means: float32 (10, 51), the mean features of each class's training digits.
        whitening: float32 (10, 51, 51): the distance of features x from class c is
            |(x - means[c]) @ whitening[c]|.
        scales: float64 (2, 2): for the energy and the distance, the median of the validation digits, and
            their 95th percentile minus the median.
        threshold: a picture with a higher score is not a digit.

    Raises:
        Permanent: an array has another shape, or a number is not finite.
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
        """Score pictures by how unlike a digit they are.

        Args:
            images: uint8 (N, 28, 28), ink 255 on 0.
            logits: (N, 10), of the network that it was fitted for, not divided by a temperature.

        Returns:
            float32 (N,), higher for less like a digit; of 95 % of digits not above the threshold.
        """
        require_digits(images)
        distances = _distances(images, logits.argmax(axis=1), self.means, self.whitening)
        measures = np.stack([_energy(logits), distances], axis=1)
        doubt, distance = ((measures - self.scales[:, 0]) / self.scales[:, 1]).T
        scores: NDArray[np.float32] = (doubt.clip(min=0) + _DISTANCE_WEIGHT * distance).astype(np.float32)
        return scores

    def to_bytes(self) -> bytes:
        """The bytes of abstention.npz; equal numbers give equal bytes."""
        return npz_bytes({name: np.asarray(getattr(self, name)) for name in _SHAPES})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read abstention.npz. Nothing is unpickled.

        Raises:
            Permanent: the content is not that of `to_bytes`.
        """
        arrays = read_npz(content, _SHAPES)
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
    """Fit the features of digits, and set the threshold so that 95 % of the validation fold are kept.

    Only digits are used for it.

    Args:
        training: the train fold, for the features of the classes.
        validation_images: uint8 (N, 28, 28), the validation fold, for scales and threshold.
        validation_logits: (N, 10), the network's outputs for these.

    Raises:
        Permanent: a fold is empty.
    """
    if not len(training) or not len(validation_images):
        raise Permanent("abstention cannot be fitted: the training or the validation fold is empty")
    means, whitening = _class_features(training)
    distances = _distances(validation_images, validation_logits.argmax(axis=1), means, whitening)
    median, high = np.quantile([_energy(validation_logits), distances], [0.5, KEPT], axis=1)
    # If all digits of the fold are equal, the difference is 0.
    scales = np.stack([median, (high - median).clip(min=1e-6)], axis=1)
    without_threshold = Abstention(means, whitening, scales, threshold=0.0)
    scores = without_threshold.scores(validation_images, validation_logits)
    return replace(without_threshold, threshold=float(np.quantile(scores, KEPT, method="inverted_cdf")))


def _require_reals(name: str, values: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if values.dtype.kind != "f" or values.shape != shape:
        raise Permanent(f"abstention: {name} must be floats {shape}, not {values.dtype} {values.shape}")
    if not np.isfinite(values.astype(np.float64)).all():
        raise Permanent(f"abstention: a number of {name} is not finite")


def _energy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The energy (N,) of logits (N, 10): minus the log of the sum of their exponentials."""
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
    """The Mahalanobis distance (N,) of each picture's features from the digits of its class."""
    distances = np.empty(len(images))
    for start in range(0, len(images), _SLICE):
        chosen = classes[start : start + _SLICE]
        by_class = np.argsort(chosen, kind="stable")
        centred = (_features(images[start : start + _SLICE]) - means[chosen])[by_class]
        whitened = np.empty_like(centred)
        ends = np.bincount(chosen, minlength=CLASSES).cumsum().tolist()
        for label, (first, end) in enumerate(pairwise([0, *ends])):
            # A product for each row: the rounding of one product of all rows depends on how many there are.
            if first < end:
                np.matmul(centred[first:end, None], whitening[label], out=whitened[first:end, None])
        distances[start : start + _SLICE][by_class] = np.sqrt(np.einsum("ij,ij->i", whitened, whitened))
    return distances


def _features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The features (N, 51): the mean ink, 0 to 1, of 49 cells, and the roughness across and down.

    The roughness is the logarithm of the mean difference between neighbouring pixels.
    """
    # Sums of integers: eight times as fast as means over the axes, with the same bits.
    rows = images.reshape(-1, _CELLS, _CELL, SIDE)
    columns = sum(rows[:, :, row].astype(np.uint16) for row in range(_CELL))
    columns = np.asarray(columns).reshape(-1, _CELLS, _CELLS, _CELL)
    ink = np.asarray(sum(columns[..., column] for column in range(_CELL)))
    cells = ink.reshape(-1, _CELLS**2).astype(np.float32) / np.float32(_CELL**2) / 255
    across = _mean_difference(images[:, :, 1:], images[:, :, :-1])
    down = _mean_difference(images[:, 1:], images[:, :-1])
    # 0.005 keeps the logarithm of an empty picture finite; 0.3 gives about the variance of a cell.
    roughness = 0.3 * np.log(np.stack([across, down], axis=1) / 255 + 0.005)
    return np.concatenate([cells, roughness], axis=1, dtype=np.float32)


def _mean_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean absolute difference (N,) of two uint8 (N, H, W), in grey levels."""
    _, height, width = one.shape
    differences = (np.maximum(one, other) - np.minimum(one, other)).reshape(-1, height * width)
    sums: NDArray[np.float32] = differences.sum(axis=1, dtype=np.uint32).astype(np.float32)
    return sums / np.float32(height * width)


def _class_features(training: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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
    overall_mean = sums.sum(axis=0) / counts.sum()
    overall_covariance = squares.sum(axis=0) / counts.sum() - np.outer(overall_mean, overall_mean)
    # A class without examples gets the mean of all digits.
    means = np.where(counts[:, None] > 0, sums / counts.clip(min=1)[:, None], overall_mean)
    scatter = squares - counts[:, None, None] * (means[:, :, None] * means[:, None, :])
    covariances = (scatter + _SHRINKAGE * overall_covariance) / (counts + _SHRINKAGE)[:, None, None]
    covariances += _VARIANCE_FLOOR * np.eye(_FEATURES)
    # With the covariance C = L L', the distance of x is |L⁻¹ x|.
    whitening = np.linalg.inv(np.linalg.cholesky(covariances)).transpose(0, 2, 1)
    return means.astype(np.float32), np.ascontiguousarray(whitening, dtype=np.float32)
