"""Options that several commands share."""

import secrets
from datetime import UTC, datetime
from typing import Annotated

import typer

from mnist_ops.domain.keys import Generation, cli_run_key
from mnist_ops.domain.selection import Reclassify, Selection

Since = Annotated[datetime | None, typer.Option(help="Take records created at or after this (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Take records created before this (UTC).")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take at most this many, the oldest first.")]
Again = Annotated[Reclassify, typer.Option(help="Which predicted records are taken again.")]


def now() -> datetime:
    """The wall clock (UTC), in the whole milliseconds that MongoDB can hold."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def new_generation() -> Generation:
    """A run of its own for what is started by hand."""
    return Generation(cli_run_key(now(), secrets.token_hex(4)))


def new_attempt() -> str:
    """A token that no other attempt has."""
    return secrets.token_hex(8)


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
