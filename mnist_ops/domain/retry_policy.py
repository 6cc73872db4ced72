"""When a later run tries a failed record again."""

from datetime import datetime, timedelta
from math import isnan

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import PredictionFailure, RecordHead

MAX_ATTEMPTS = 5
FIRST_DELAY = timedelta(minutes=15)
LONGEST_DELAY = timedelta(days=1)


def failure_after(
    head: RecordHead,
    reason: Reason,
    detail: str,
    *,
    generation: Generation,
    at: datetime,
    retry_after_s: float | None = None,
) -> PredictionFailure:
    """The failure to write into a record after one more failed attempt.

    Attempts are counted per URL: an edited URL starts again at one. A transient failure is retried
    after 15 minutes, then 1, 4 and 16 hours; later if the server's `Retry-After` is longer, but within
    a day. The fifth attempt is the last one.

    Args:
        head: the record as snapshotted.
        reason: why this attempt failed.
        detail: one line for people.
        generation: the generation that made the attempt.
        at: the selection time of that generation.
        retry_after_s: the server's `Retry-After`, in seconds.
    """
    last = head.failure
    same_url = last.attempts > 0 and last.image_url == head.image_url
    attempts = last.attempts + 1 if same_url else 1
    first_at = last.first_at if same_url and isinstance(last.first_at, datetime) else at
    return PredictionFailure(
        reason=reason,
        detail=detail,
        image_url=head.image_url,
        attempts=attempts,
        first_at=first_at,
        last_at=at,
        next_attempt_at=_next_attempt(reason, attempts, at, retry_after_s),
        run=generation.run,
    )


def _next_attempt(
    reason: Reason, attempts: int, at: datetime, retry_after_s: float | None
) -> datetime | None:
    if not reason.transient or attempts >= MAX_ATTEMPTS:
        return None
    delay = FIRST_DELAY * float(4 ** (attempts - 1))
    if retry_after_s is not None and not isnan(retry_after_s):
        asked_s = min(max(retry_after_s, 0.0), LONGEST_DELAY.total_seconds())
        delay = max(delay, timedelta(seconds=asked_s))
    return at + min(delay, LONGEST_DELAY)
