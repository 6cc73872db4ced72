"""How good a classifier's probabilities are, measured against labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent

_SMALLEST = float(np.finfo(np.float64).tiny)  # keeps the logarithm of a probability of 0 finite


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of one fold.

    Attributes:
        samples: how many examples were classified.
        correct: how many of them rightly.
        accuracy: correct / samples.
        nll: mean negative log-likelihood of the labels, nats.
        per_class_accuracy: by class index, the share of its examples classified rightly; None where
            the fold has no example of it.
        confusion: how often class (row) was taken for class (column).
    """

    samples: int
    correct: int
    accuracy: float
    nll: float
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
    """
    _require_fit(probabilities, labels)
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    pairs = labels.astype(np.int64) * classes + predicted
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    hits, totals = confusion.diagonal(), confusion.sum(axis=1)
    correct = int(hits.sum())
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return Evaluation(
        samples=len(labels),
        correct=correct,
        accuracy=correct / len(labels),
        nll=float(-np.log(likelihood.clip(min=_SMALLEST)).mean()),
        per_class_accuracy=tuple(
            int(hit) / int(total) if total else None for hit, total in zip(hits, totals, strict=True)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _require_fit(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),):
        raise Permanent(f"probabilities {probabilities.shape} and labels {labels.shape} do not fit")
    if not len(labels):
        raise Permanent("there are no examples to evaluate")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise Permanent(f"a label is outside 0..{probabilities.shape[1] - 1}")
    if not np.isfinite(probabilities).all():
        raise Permanent("a probability is not finite")
