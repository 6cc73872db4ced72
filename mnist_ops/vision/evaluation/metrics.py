"""How good a classifier's probabilities are, measured against labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.statistics import wilson_interval
from mnist_ops.vision.evaluation.calibration import reliability, require_labelled

_SMALLEST = float(np.finfo(np.float64).tiny)  # keeps the logarithm of a probability of 0 finite


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of one fold.

    Attributes:
        samples: how many examples were classified.
        correct: how many of them rightly.
        accuracy: correct / samples.
        accuracy_low: the lower end of the accuracy's 95 % interval, after Wilson.
        accuracy_high: its upper end.
        nll: mean negative log-likelihood of the labels, nats.
        brier: squared distance of the probabilities from the truth, summed over the classes, mean over
            the examples; 0 to 2.
        ece: expected calibration error: the mean gap between confidence and accuracy over 15 bins of
            equal width of the top probability, 0 to 1.
        chance_ece: the mean ECE that exactly right probabilities would show on these examples: on few of
            them chance alone makes gaps.
        per_class_accuracy: by class index, the share of its examples classified rightly; None where
            the fold has no example of it.
        confusion: how often class (row) was taken for class (column).
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
    """Measure probabilities against labels.

    Args:
        probabilities: float (N, C), each row summing to 1.
        labels: integers (N,), 0 to C - 1.

    Raises:
        Permanent: there are no examples, the shapes do not fit, a label is outside the classes or a
            probability is not finite.
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
    truth = np.eye(classes)[labels]
    bins = reliability(probabilities, labels)
    return Evaluation(
        samples=samples,
        correct=correct,
        accuracy=correct / samples,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        nll=float(-np.log(likelihood.clip(min=_SMALLEST)).mean()),
        brier=float(np.square(probabilities - truth).sum(axis=1).mean()),
        ece=bins.error,
        chance_ece=bins.chance_error,
        per_class_accuracy=tuple(
            int(hit) / int(total) if total else None for hit, total in zip(hits, totals, strict=True)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )
