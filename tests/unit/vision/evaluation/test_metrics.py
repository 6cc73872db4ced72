"""The measures of a classifier."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.evaluation.metrics import evaluate

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
LABELS = np.array([0, 1, 1, 1])


def test_the_measures_are_those_of_the_definition() -> None:
    """Counted by hand."""
    measures = evaluate(PROBABILITIES, LABELS)
    assert (measures.samples, measures.correct, measures.accuracy) == (4, 2, 0.5)
    assert measures.per_class_accuracy == (1.0, 1 / 3, None)
    assert measures.confusion == ((1, 0, 0), (1, 1, 1), (0, 0, 0))
    assert measures.nll == pytest.approx(-sum(map(math.log, (0.7, 0.6, 0.25, 0.3))) / 4)
    assert measures.brier == pytest.approx((0.14 + 0.26 + 0.875 + 0.78) / 4)


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    """By hand: of 15 bins, 0.7 falls alone into one, 0.6 into another, and 0.5 twice into a third."""
    assert evaluate(PROBABILITIES, LABELS).ece == pytest.approx((0.3 + 0.4 + 2 * 0.5) / 4)


def test_the_accuracy_carries_its_interval() -> None:
    """Wilson's, at 95 %; figures of the formula, worked out by hand for 2 of 4."""
    measures = evaluate(PROBABILITIES, LABELS)
    assert (measures.accuracy_low, measures.accuracy_high) == pytest.approx((0.150, 0.850), abs=5e-4)


def test_a_probability_of_zero_keeps_the_likelihood_finite() -> None:
    """A sure mistake costs much, not everything."""
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
def test_what_cannot_be_measured_is_refused(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    """No measure is made up."""
    with pytest.raises(Permanent):
        evaluate(probabilities, labels)
