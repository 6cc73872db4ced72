"""Values as people read them; the filters of the templates."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import unquote

from markupsafe import Markup

from mnist_ops.domain.quantities import NOTHING, byte_size, number, percent, seconds
from mnist_ops.domain.record_ids import readable_id

__all__ = ["FILTERS", "NOTHING", "byte_size", "number", "percent", "seconds", "when"]


def when(moment: datetime | str | None) -> Markup | str:
    """A time in UTC to the second, as a `time` element.

    Args:
        moment: aware; or as ISO 8601, as ledgers hold it. A text that is no time is shown as it is.
    """
    if moment is None or moment == "":
        return NOTHING
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return str(moment)
    at = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S} UTC")


FILTERS: Mapping[str, Callable[..., str]] = {
    "number": number,
    "percent": percent,
    "seconds": seconds,
    "bytes": byte_size,
    "when": when,
    "record_id": readable_id,
    "run_name": unquote,
}
