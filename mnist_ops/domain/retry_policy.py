"""When a later run tries a failed record again."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import PredictionFailure, RecordHead

MAX_ATTEMPTS = 5
FIRST_DELAY = timedelta(minutes=15)
LONGEST_DELAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A generation's attempt to classify its records.

    Attributes:
        generation: the generation.
        at: its selection time (UTC).
        over_budget: whether it is over its failure budget, also if it was released.
    """

    generation: Generation
    at: datetime
    over_budget: bool = False


def failure_after(
    head: RecordHead,
    reason: Reason,
    detail: str,
    attempt: Attempt,
    *,
    retry_after_s: float | None = None,
) -> PredictionFailure:
    """The failure to write into a record after one more failed attempt.

    A transient failure is retried after 15 minutes, then 1, 4 and 16 hours; later if the server's
    `Retry-After` is longer, but within a day. The fifth attempt is the last one. In a run over its failure
    budget this holds for every reason that one wrong setting or one outage can cause.

    Attempts are counted per URL. They start again at one if the URL was edited, or if the former failure was
    permanent: then somebody asked for the record again.

    Args:
        head: the record as snapshotted.
        reason: why this attempt failed.
        detail: one line for people.
        attempt: the generation that made the attempt.
        retry_after_s: the server's `Retry-After`, in seconds.
    """
    last, at = head.failure, attempt.at
    counts_on = head.failed_here and last.next_attempt_at is not None
    attempts = last.attempts + 1 if counts_on else 1
    first_at = last.first_at if counts_on and isinstance(last.first_at, datetime) else at
    retriable = reason.transient or (attempt.over_budget and reason.can_hit_whole_run)
    return PredictionFailure(
        reason=reason,
        detail=detail,
        image_url=head.image_url,
        attempts=attempts,
        first_at=first_at,
        last_at=at,
        next_attempt_at=_next_attempt(attempts, at, retry_after_s) if retriable else None,
        run=attempt.generation.run,
    )


def _next_attempt(attempts: int, at: datetime, retry_after_s: float | None) -> datetime | None:
    if attempts >= MAX_ATTEMPTS:
        return None
    delay = FIRST_DELAY * float(4 ** (attempts - 1))
    if retry_after_s is not None and not isnan(retry_after_s):
        asked_s = min(max(retry_after_s, 0.0), LONGEST_DELAY.total_seconds())
        delay = max(delay, timedelta(seconds=asked_s))
    return at + min(delay, LONGEST_DELAY)
