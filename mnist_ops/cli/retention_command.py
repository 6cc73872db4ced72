"""`mnist-ops gc`: sweep what nothing refers to from the object store."""

import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.settings import settings_of

if TYPE_CHECKING:
    from mnist_ops.domain.retention import Heap, Sweep

SOME_FAILED = 1
_AGE = re.compile(r"([1-9]\d{0,3})d")


def gc(
    older_than: Annotated[
        str | None,
        typer.Option(help="Age of debris in days, such as 30d. By default MNIST_OPS_RETENTION_DAYS."),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it, instead of saying what would go.")
    ] = False,
) -> None:
    """Say what old debris of killed, repeated and failed tasks lies in the bucket, or delete it.

    What a ledger or a data set refers to stays, and what belongs to a run that is not known to be finished
    until MNIST_OPS_RETENTION_GRACE_DAYS have passed.
    """
    from mnist_ops.steps.collect_garbage import Places, collect_garbage
    from mnist_ops.wiring import adapters_of_environment

    adapters = adapters_of_environment(settings_of(os.environ), os.environ)
    rule = adapters.settings.retention
    if older_than is not None:
        rule = replace(rule, older_than=_age(older_than))
    sweep = collect_garbage(
        Places(adapters.objects, adapters.runs, adapters.datasets),
        adapters.sweeper,
        rule=rule,
        now=datetime.now(UTC),
        delete=delete,
    )
    for line in _lines(sweep, delete=delete):
        typer.echo(line)
    for key, words in sweep.failed.items():
        typer.echo(f"not deleted: {key}: {words}", err=True)
    if sweep.failed:
        raise typer.Exit(SOME_FAILED)


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        # Not less than a day: what is being uploaded right now looks like what was given up.
        raise typer.BadParameter(f"{text!r}: expected days, such as 30d")
    return timedelta(days=int(match[1]))


def _lines(sweep: "Sweep", *, delete: bool) -> list[str]:
    lines = [f"debris: {_words(heap)} of {kind}" for kind, heap in sweep.debris.items()]
    if sweep.uploads:
        lines.append(f"debris: {sweep.uploads} unfinished uploads")
    lines += [f"kept: {_words(heap)}, {verdict}" for verdict, heap in sweep.kept.items()]
    if delete:
        spared = f", {len(sweep.spared)} came into use meanwhile" if sweep.spared else ""
        return [*lines, f"deleted {sweep.deleted}{spared}"]
    return [*lines, "nothing was deleted: run it again with --delete" if _any(sweep) else "nothing to delete"]


def _any(sweep: "Sweep") -> bool:
    return bool(sweep.debris or sweep.uploads)


def _words(heap: "Heap") -> str:
    return f"{heap.number} objects ({heap.size / 1e6:.1f} MB)"
