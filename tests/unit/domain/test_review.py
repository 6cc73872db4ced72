"""When a person should look at a prediction."""

import pytest

from mnist_ops.domain.review import ReviewReason, review_reason


@pytest.mark.parametrize(("confidence", "reason"), [(0.89, "low_confidence"), (0.9, None), (1.0, None)])
def test_a_prediction_under_the_threshold_needs_a_look(confidence: float, reason: str | None) -> None:
    """Exactly at the threshold it does not."""
    assert review_reason(confidence, not_a_digit=False, review_below=0.9) == reason


@pytest.mark.parametrize("confidence", [0.1, 1.0])
def test_no_digit_wins_over_low_confidence(confidence: float) -> None:
    """If no class is right, the confidence does not matter."""
    assert review_reason(confidence, not_a_digit=True, review_below=0.9) is ReviewReason.NOT_A_DIGIT


def test_the_list_is_closed() -> None:
    """It is written into people's records: a new reason is a decision, and appears here."""
    assert {str(reason) for reason in ReviewReason} == {"low_confidence", "not_a_digit"}
