"""Which predictions a person should look at."""

from enum import StrEnum


class ReviewReason(StrEnum):
    """Why a prediction should be looked at; stored in records, so these names must not change."""

    LOW_CONFIDENCE = "low_confidence"
    NOT_A_DIGIT = "not_a_digit"


def review_reason(confidence: float, *, not_a_digit: bool, review_below: float) -> ReviewReason | None:
    """Why a prediction should be looked at; None if it need not be.

    Args:
        confidence: the probability of the predicted class, 0 to 1.
        not_a_digit: whether the image is not a digit; then no class is right, however high its probability.
        review_below: a prediction with less confidence than this is marked.
    """
    if not_a_digit:
        return ReviewReason.NOT_A_DIGIT
    return ReviewReason.LOW_CONFIDENCE if confidence < review_below else None
