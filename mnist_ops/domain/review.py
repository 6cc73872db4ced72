"""Which predictions a person should look at."""

from enum import StrEnum

REVIEW_BELOW = 0.9  # confidence, where nobody says otherwise


class ReviewReason(StrEnum):
    """Why a prediction should be looked at; written into records, so a name once given stays."""

    LOW_CONFIDENCE = "low_confidence"
    NOT_A_DIGIT = "not_a_digit"


def review_reason(confidence: float, *, not_a_digit: bool, review_below: float) -> ReviewReason | None:
    """Why a prediction should be looked at; None where it need not.

    Args:
        confidence: the probability of the predicted class, 0 to 1.
        not_a_digit: whether the picture is taken for none; then no class is right, however likely.
        review_below: less confidence than this needs a look.
    """
    if not_a_digit:
        return ReviewReason.NOT_A_DIGIT
    return ReviewReason.LOW_CONFIDENCE if confidence < review_below else None
