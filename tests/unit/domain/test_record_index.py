"""Bounded counts, positions in lists, and what makes two looks at a record differ."""

from datetime import UTC, datetime

import pytest

from mnist_ops.domain.cursors import LedgerCursor, ReviewCursor
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.record_index import BoundedCount, fingerprint
from mnist_ops.domain.records import RecordHead

PREDICTION = {"run": "dag/run", "generation": 0, "model": {"digest": "sha256:1"}}
HEAD = RecordHead(1, "1", "https://images.example/1.png", None, prediction=PREDICTION)


def test_a_count_that_stopped_at_its_bound_has_a_plus() -> None:
    """People see that there may be more."""
    assert (str(BoundedCount(1_000, more=True)), str(BoundedCount(1_000))) == ("1,000+", "1,000")


@pytest.mark.parametrize("text", ["", "2026-01-31", "yesterday dag/run/0"])
def test_a_text_that_is_no_position_in_the_list_of_runs_is_refused(text: str) -> None:
    """It says what to do."""
    with pytest.raises(UsageError, match="position"):
        LedgerCursor.parse(text)


@pytest.mark.parametrize("confidence", [None, True, "0.5"])
def test_a_record_without_a_confidence_has_no_position(confidence: object) -> None:
    """Other programs may have written its prediction."""
    head = RecordHead(1, "1", None, None, prediction={"confidence": confidence})
    assert ReviewCursor.of(head) is None


@pytest.mark.parametrize(
    "changed",
    [
        RecordHead(2, "2", HEAD.image_url, None, prediction=PREDICTION),
        RecordHead(1, "1", "https://images.example/2.png", None, prediction=PREDICTION),
        RecordHead(1, "1", HEAD.image_url, None, label="one", prediction=PREDICTION),
        RecordHead(1, "1", HEAD.image_url, None, prediction={**PREDICTION, "generation": 1}),
    ],
    ids=["another record", "another URL", "a label", "another prediction"],
)
def test_a_fingerprint_changes_with_what_a_reviewer_sees(changed: RecordHead) -> None:
    """And with nothing else."""
    assert fingerprint(changed) != fingerprint(HEAD)
    later = RecordHead(1, "1", HEAD.image_url, datetime(2026, 1, 31, tzinfo=UTC), prediction=PREDICTION)
    assert fingerprint(later) == fingerprint(HEAD)
