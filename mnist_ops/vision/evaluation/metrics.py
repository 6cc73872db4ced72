"""Metrics of a classifier's probabilities on labelled examples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.statistics import wilson_interval
from mnist_ops.vision.evaluation.calibration import reliability, require_labelled

_MIN_LIKELIHOOD = float(np.finfo(np.float64).tiny)  # keeps the logarithm of a probability of 0 finite


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of one fold.

    Attributes:
        samples: number of examples.
        correct: number of examples classified correctly.
        accuracy: correct / samples.
        accuracy_low: lower bound of the accuracy's 95 % Wilson interval.
        accuracy_high: its upper bound.
        nll: mean negative log-likelihood of the labels, nats.
        brier: Brier score: squared distance between probabilities and one-hot labels, summed over the
            classes, mean over the examples; 0 to 2.
        ece: expected calibration error: the mean difference of confidence and accuracy over 15 bins of
            equal width of the top probability, 0 to 1.
        chance_ece: the mean ECE that perfectly calibrated probabilities would have on these examples; it is
            high if there are few examples.
        per_class_accuracy: by class index, the share of its examples classified correctly; None if the fold
            has no example of the class.
        confusion: number of examples of a class (row) that were predicted as a class (column).
    """

    samples: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    nll: float
    brier: float
    ece: float
    chance_ece: float
    per_class_accuracy: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]


def evaluate(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> Evaluation:
    """Compute the metrics of probabilities on labelled examples.

    Args:
        probabilities: float (N, C), each row summing to 1.
        labels: integers (N,), 0 to C - 1.

    Raises:
        Permanent: as `require_labelled`.
    Source: G. W. Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    require_labelled(probabilities, labels)
    samples, classes = probabilities.shape
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    hits, totals = confusion.diagonal(), confusion.sum(axis=1)
    correct = int(hits.sum())
    accuracy_low, accuracy_high = wilson_interval(correct, samples)
    likelihood = probabilities[np.arange(samples), labels].astype(np.float64)
    one_hot = np.eye(classes)[labels]
    bins = reliability(probabilities, labels)
    return Evaluation(
        samples=samples,
        correct=correct,
        accuracy=correct / samples,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        nll=float(-np.log(likelihood.clip(min=_MIN_LIKELIHOOD)).mean()),
        brier=float(np.square(probabilities - one_hot).sum(axis=1).mean()),
        ece=bins.error,
        chance_ece=bins.chance_error,
        per_class_accuracy=tuple(
            int(hit) / int(total) if total else None for hit, total in zip(hits, totals, strict=True)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )
