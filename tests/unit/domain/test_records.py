"""The documents that are written into a record, and how stored ones are read."""

from datetime import UTC, datetime

import pytest

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import (
    NO_PREDICTION,
    BundleRef,
    Prediction,
    PredictionFailure,
    PredictionStamp,
    prediction_stamp,
)
from mnist_ops.domain.review import ReviewReason

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_prediction_is_written_as_the_design_shows_it() -> None:
    """With all that tells where it comes from."""
    prediction = Prediction(
        label="seven",
        index=7,
        confidence=0.75,
        probabilities={"seven": 0.75, "one": 0.25},
        review_reason=ReviewReason.LOW_CONFIDENCE,
        model=BundleRef("lenet5", 7, "s3://bucket/models", "sha256:abc"),
        image_url="https://images.example/7.png",
        image_sha256="def",
        generation=Generation("dag/run", 2),
        snapshot="sha256:123",
        at=AT,
    )
    assert prediction.document() == {
        "label": "seven",
        "index": 7,
        "confidence": 0.75,
        "probabilities": {"seven": 0.75, "one": 0.25},
        "needs_review": True,
        "review_reason": "low_confidence",
        "model": {"name": "lenet5", "version": 7, "digest": "sha256:abc"},
        "image": {"url": "https://images.example/7.png", "sha256": "def"},
        "run": "dag/run",
        "generation": 2,
        "snapshot": "sha256:123",
        "at": AT,
    }


def test_a_failure_is_written_as_the_design_shows_it() -> None:
    """The reason as plain text."""
    failure = PredictionFailure(Reason.TIMEOUT, "20 s", None, 1, AT, AT, None, "dag/run")
    assert failure.document() == {
        "reason": "timeout",
        "detail": "20 s",
        "image_url": None,
        "attempts": 1,
        "first_at": AT,
        "last_at": AT,
        "next_attempt_at": None,
        "permanent": True,
        "run": "dag/run",
    }
    assert type(failure.document()["reason"]) is str


@pytest.mark.parametrize(
    ("prediction", "stamp"),
    [
        (None, NO_PREDICTION),
        ({}, NO_PREDICTION),
        ({"model": None}, NO_PREDICTION),
        ({"model": "lenet5"}, NO_PREDICTION),
        ({"model": {"digest": "d"}, "run": "r", "generation": 1}, PredictionStamp("r", 1, "d")),
    ],
)
def test_whatever_somebody_wrote_as_a_prediction_can_be_read(
    prediction: object, stamp: PredictionStamp
) -> None:
    """The pipeline is not the only writer of a collection."""
    assert prediction_stamp(prediction) == stamp  # type: ignore[arg-type]
