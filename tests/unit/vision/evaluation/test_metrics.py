"""The metrics of a classifier."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.evaluation.metrics import evaluate

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
LABELS = np.array([0, 1, 1, 1])


def test_the_metrics_are_those_of_the_definition() -> None:
    """Computed by hand."""
    metrics = evaluate(PROBABILITIES, LABELS)
    assert (metrics.samples, metrics.correct, metrics.accuracy) == (4, 2, 0.5)
    assert metrics.per_class_accuracy == (1.0, 1 / 3, None)
    assert metrics.confusion == ((1, 0, 0), (1, 1, 1), (0, 0, 0))
    assert metrics.nll == pytest.approx(-sum(map(math.log, (0.7, 0.6, 0.25, 0.3))) / 4)
    assert metrics.brier == pytest.approx((0.14 + 0.26 + 0.875 + 0.78) / 4)


def test_the_calibration_error_is_the_mean_difference_of_the_bins() -> None:
    """By hand: of 15 bins, 0.7 is alone in one, 0.6 in another, and 0.5 twice in a third."""
    assert evaluate(PROBABILITIES, LABELS).ece == pytest.approx((0.3 + 0.4 + 2 * 0.5) / 4)


def test_the_accuracy_has_its_interval() -> None:
    """Wilson's at 95 %, computed by hand for 2 of 4."""
    metrics = evaluate(PROBABILITIES, LABELS)
    assert (metrics.accuracy_low, metrics.accuracy_high) == pytest.approx((0.150, 0.850), abs=5e-4)


def test_a_probability_of_zero_keeps_the_likelihood_finite() -> None:
    """A certain mistake costs much, but not infinitely much."""
    assert 700 < evaluate(np.array([[1.0, 0.0]]), np.array([1])).nll < 710


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.empty((0, 3)), np.empty(0, int)),
        (PROBABILITIES, LABELS[:2]),
        (PROBABILITIES, LABELS + 2),
        (PROBABILITIES, LABELS - 1),
        (np.full((4, 3), np.nan), LABELS),
    ],
    ids=["empty", "shapes", "above", "below", "nan"],
)
def test_invalid_probabilities_and_labels_are_refused(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    """With a permanent error."""
    with pytest.raises(Permanent):
        evaluate(probabilities, labels)
