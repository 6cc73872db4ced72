"""`mnist-ops gc`: delete objects that nothing refers to."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.cli._support.options import pipeline
from mnist_ops.domain.errors import UsageError

if TYPE_CHECKING:
    from mnist_ops.domain.retention import GcResult, ObjectTotals

_AGE = re.compile(r"([1-9]\d{0,3})d")


def gc(
    older_than: Annotated[
        str | None,
        typer.Option(help="The minimum age in days, such as 30d; by default MNIST_OPS_RETENTION_DAYS."),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the garbage. Without this option it is only listed.")
    ] = False,
) -> None:
    """List the objects that killed, repeated and failed tasks left behind, or delete them.

    An object that a ledger or a data set refers to is kept. An object of a run that is not known to be
    finished is kept until MNIST_OPS_RETENTION_GRACE_DAYS have passed.
    """
    steps = pipeline()
    rule = steps.settings.retention
    if older_than is not None:
        rule = replace(rule, older_than=_age(older_than))
    result = steps.collect_garbage(rule, delete=delete)
    for line in _lines(result, delete=delete):
        typer.echo(line)
    for key, message in result.failed.items():
        typer.echo(f"not deleted: {key}: {message}", err=True)
    if result.failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        # At least a day: an upload in progress looks like one that was abandoned.
        raise UsageError(f"--older-than {text}: expected days, such as 30d")
    return timedelta(days=int(match[1]))


def _lines(result: "GcResult", *, delete: bool) -> list[str]:
    lines = [f"garbage: {_summary(totals)} of {kind}" for kind, totals in result.garbage.items()]
    if result.uploads:
        lines.append(f"garbage: {result.uploads} unfinished uploads")
    lines += [f"kept: {_summary(totals)}, {disposition}" for disposition, totals in result.kept.items()]
    if delete:
        reused = f", {len(result.reused)} came into use meanwhile" if result.reused else ""
        return [*lines, f"deleted {result.deleted}{reused}"]
    found = result.garbage or result.uploads
    return [*lines, "nothing was deleted: run it again with --delete" if found else "nothing to delete"]


def _summary(totals: "ObjectTotals") -> str:
    return f"{totals.number} objects ({totals.size / 1e6:.1f} MB)"
