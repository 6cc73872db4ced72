"""Measure the calibration of probabilities, and fit the temperature that improves it.

Source: C. Guo et al., "On Calibration of Modern Neural Networks", 2017.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent

BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 4.0  # the bounds of a fit
_BISECTIONS = 60  # of the interval of 1 / T, down to the precision of float64
_DECIMALS = 4  # of a fitted temperature; further digits are noise and differ between processors


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram: examples in bins of their confidence, which is the top probability.

    Attributes:
        edges: the edges of the bins, from 0 to 1; a bin includes its upper edge and not its lower one.
        counts: the number of examples in each bin.
        confidence: their mean confidence in each bin; None if a bin is empty.
        accuracy: the share of them classified correctly in each bin; None if a bin is empty.
        variance: of the number of correct ones in each bin, if the confidences were exactly right.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    variance: tuple[float, ...]

    @property
    def chance_error(self) -> float:
        """The mean error that perfectly calibrated probabilities would have on the same number of examples.

        In each bin the number of correct examples is a sum of Bernoulli variables. Its mean absolute
        deviation is that of a normal distribution: sqrt(2 / pi) standard deviations.
        """
        return float(np.sqrt(2 / np.pi * np.array(self.variance)).sum()) / sum(self.counts)

    @property
    def error(self) -> float:
        """The expected calibration error (ECE): the mean gap of the bins, weighted by their examples."""
        total = sum(self.counts)
        rows = zip(self.counts, self.confidence, self.accuracy, strict=True)
        return sum(
            count / total * abs(confidence - accuracy)
            for count, confidence, accuracy in rows
            if confidence is not None and accuracy is not None
        )


def reliability(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = BINS
) -> Reliability:
    """Group examples by their top probability into bins of equal width.

    Args:
        probabilities: float (N, C), each row summing to 1.
        labels: integers (N,), 0 to C - 1.
        bins: their number.

    Raises:
        Permanent: as `require_labelled`.
    """
    require_labelled(probabilities, labels)
    top = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    chosen = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(chosen, minlength=bins)
    sums = (np.bincount(chosen, weights=values, minlength=bins) for values in (top, correct))
    confidence, accuracy = (
        tuple(float(total / count) if count else None for total, count in zip(column, counts, strict=True))
        for column in sums
    )
    variance = np.bincount(chosen, weights=top * (1 - top), minlength=bins)
    edges = tuple(float(edge) for edge in np.linspace(0.0, 1.0, bins + 1))
    return Reliability(edges, tuple(counts.tolist()), confidence, accuracy, tuple(variance.tolist()))


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature T that minimises the NLL of softmax(logits / T), with 4 decimals.

    The NLL is convex in 1 / T, so bisection finds the one root of its derivative: equal logits always give
    the same T. If the rounded T is not better than 1, the result is 1.

    Args:
        logits: float (N, C), of examples that the network was not trained on.
        labels: integers (N,), 0 to C - 1.

    Returns:
        T, 0.25 to 4. Below 1 if the classifier was underconfident, above 1 if it was overconfident.

    Raises:
        Permanent: as `require_labelled`.
    """
    require_labelled(logits, labels)
    exact = logits.astype(np.float64)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _derivative(exact, labels, middle) > 0:
            high = middle
        else:
            low = middle
    fitted = min(max(round(2 / (low + high), _DECIMALS), MIN_TEMPERATURE), MAX_TEMPERATURE)
    return fitted if nll_at(exact, labels, fitted) < nll_at(exact, labels, 1.0) else 1.0


def nll_at(logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float) -> float:
    """The mean negative log-likelihood, nats, of labels (N,) under softmax(logits (N, C) / temperature)."""
    scaled = logits.astype(np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    picked = scaled[np.arange(len(labels)), labels]
    return float((np.log(np.exp(scaled).sum(axis=1)) - picked).mean())


def _derivative(logits: NDArray[np.float64], labels: NDArray[np.integer], inverse: float) -> float:
    """The derivative of the NLL by 1 / T: the mean of the expected logit minus the label's logit."""
    exponentials = np.exp(inverse * (logits - logits.max(axis=1, keepdims=True)))
    expected = (exponentials * logits).sum(axis=1) / exponentials.sum(axis=1)
    return float((expected - logits[np.arange(len(labels)), labels]).mean())


def require_labelled(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Check scores (N, C), which are logits or probabilities, and their labels (N,).

    Raises:
        Permanent: there are no examples, the shapes do not match, a label is outside the classes or a
            score is not finite.
    """
    if scores.ndim != 2 or labels.shape != (len(scores),):
        raise Permanent(f"scores {scores.shape} and labels {labels.shape} do not match")
    if not len(labels):
        raise Permanent("there are no examples to evaluate")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise Permanent(f"a label is outside 0..{scores.shape[1] - 1}")
    if not np.isfinite(scores).all():
        raise Permanent("a score is not finite")
