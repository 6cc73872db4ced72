"""Who looks at which record: leases, so that two reviewers never get the same one, and the answers given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

LEASE = timedelta(minutes=10)
BATCH = 10  # records that a reviewer gets ahead, so that the next picture is there at once
SESSION = timedelta(hours=1)
_FEWEST_FOR_RATE = 2


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What a reviewer did with one record.

    Attributes:
        record: its `_id` as canonical Extended JSON.
        by: the reviewer.
        at: when (UTC).
        audit: the audit that asked; None for a record that needed a review.
    """

    record: str
    by: str
    at: datetime
    audit: str | None = None


def answers_an_hour(answers: Sequence[GivenAnswer]) -> float | None:
    """The rate of a reviewer from the first of their answers to the last; None for fewer than two.

    Args:
        answers: newest first.
    """
    if len(answers) < _FEWEST_FOR_RATE:
        return None
    seconds = (answers[0].at - answers[-1].at).total_seconds()
    return (len(answers) - 1) / seconds * 3600 if seconds > 0 else None
