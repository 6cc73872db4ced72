"""Points in time as people write them."""

import re
from datetime import UTC, datetime, timedelta

from mnist_ops.domain.errors import UsageError

EXAMPLE = "2026-01-31T00:00:00Z"

# fromisoformat takes more, such as 20260131 and 2026-W05. Local mean times have offsets with seconds.
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?)?",
    re.IGNORECASE,
)
_AGO = re.compile(r"(\d{1,6}) ?(h|hours?|d|days?)( ago)?")


def iso_moment(text: str, name: str) -> datetime:
    """Read a date, or a date and time as RFC 3339 writes it; the result is in UTC.

    Args:
        text: such as 2026-01-31, which is its midnight, or 2026-01-31T12:00:00+02:00. The seconds and the
            offset may be left out; without an offset it is UTC.
        name: the option or field, for the error.

    Raises:
        UsageError: it is neither; the message has an example.
    """
    try:
        return _moment(text)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(f"{name}: {text!r} is not a date and time such as {EXAMPLE}") from None


def moment_of_words(text: str, name: str, now: datetime) -> datetime:
    """Read what `iso_moment` reads, or `now`, `today`, `yesterday`, `3 days ago`, `3d`, `12h` (UTC).

    `today` and `yesterday` are their midnights. `3 days ago` is 72 hours before now.

    Args:
        text: what was typed.
        name: the option, for the error.
        now: the current time (UTC).

    Raises:
        UsageError: it is none of these, or outside of the calendar; the message has examples.
    """
    words = " ".join(text.lower().split())
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if words in named:
        return named[words]
    try:
        if ago := _AGO.fullmatch(words):
            number = int(ago[1])
            return now - (timedelta(hours=number) if ago[2].startswith("h") else timedelta(days=number))
        return _moment(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{name}: {text!r} is not a point in time; write it like 2026-01-31, {EXAMPLE}, yesterday, "
            "'3 days ago' or 12h"
        ) from None


def _moment(text: str) -> datetime:
    if not _ISO.fullmatch(text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
