"""Options that several commands share."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from mnist_ops.domain.selection import Reclassify, Selection, whole_milliseconds

Since = Annotated[datetime | None, typer.Option(help="Take records created at or after this (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Take records created before this (UTC).")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take at most this many, the oldest first.")]
Again = Annotated[Reclassify, typer.Option(help="Which predicted records are taken again.")]


def now() -> datetime:
    """The wall clock (UTC), in the whole milliseconds that MongoDB can hold."""
    return whole_milliseconds(datetime.now(UTC))


def selection(
    since: datetime | None, until: datetime | None, again: Reclassify, limit: int | None
) -> Selection:
    """The selection of a run by hand; without `until`, everything so far."""
    moment = now()
    return Selection(
        at=moment,
        since=since.replace(tzinfo=UTC) if since else None,
        until=until.replace(tzinfo=UTC) if until else moment,
        reclassify=again,
        limit=limit,
    )
