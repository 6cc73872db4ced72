"""Commands for the operators of a deployment: `mnist-ops init|ledgers|release-hold`."""

import getpass
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from mnist_ops.cli._support.options import pipeline
from mnist_ops.domain.keys import Generation
from mnist_ops.settings import settings_of


def init() -> None:
    """Create the indexes and the bucket that the pipeline needs; safe to repeat."""
    from mnist_ops.wiring import adapters_of_environment

    adapters = adapters_of_environment(settings_of(os.environ), os.environ)
    for name in adapters.records.ensure_indexes():
        typer.echo(f"index {name}")
    adapters.objects.ensure_bucket()
    typer.echo(f"bucket {adapters.settings.s3_bucket}")


def ledgers(
    run: Annotated[str, typer.Argument(help="A run key, or its first characters. By default all runs.")] = "",
    short: Annotated[
        bool, typer.Option("--short", help="Outcomes, cost and bottleneck in words instead of JSON.")
    ] = False,
) -> None:
    """Print the ledgers of runs, oldest first, one JSON object a line."""
    for ledger in pipeline().adapters.runs.ledgers(run):
        typer.echo(summary_of(ledger) if short else json.dumps(ledger, default=_text, sort_keys=True))


def summary_of(ledger: Mapping[str, Any]) -> str:
    """Summarise a ledger's document in a few lines: outcomes, a problem if any, cost and bottleneck."""
    outcomes = ", ".join(f"{count} {name}" for name, count in ledger["outcomes"].items() if count)
    lines = [f"{ledger['run']}, generation {ledger['generation']}, {_text(ledger['finished_at'])}"]
    lines.append(f"{ledger['selected']} records" + (f": {outcomes}" if outcomes else ""))
    if problem := ledger["imbalance"] or ledger["held_because"]:
        lines.append(f"PROBLEM: {problem}")
    lines.append(_cost(ledger["cost"]))
    if bottleneck := ledger["bottleneck"]:
        lines.append(
            f"bottleneck: {bottleneck['stage']}, {bottleneck['share']:.0%} of the time of all tasks: "
            f"{bottleneck['doing']}"
        )
    return "\n  ".join(lines)


def _cost(cost: Mapping[str, Any]) -> str:
    currency, per_1000 = cost["currency"], cost["per_1000_records"]
    items = ", ".join(f"{name} {amount:.6f}" for name, amount in cost["by"].items() if amount)
    return (
        f"cost: about {cost['total']:.6f} {currency}"
        + (f", {per_1000:.6f} {currency} per 1,000 records" if per_1000 is not None else "")
        + (f" ({items})" if items else "")
    )


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def release_hold(
    run: Annotated[str, typer.Argument(help="The run key, from the log of the held run.")],
    why: Annotated[str, typer.Option(help="The reason, which is kept with your name.")],
    generation: Annotated[int, typer.Option(min=0, help="The generation.")] = 0,
) -> None:
    """Allow a held run to be published. Afterwards, clear its task `assess` in Airflow."""
    steps = pipeline()
    held = Generation(run, generation)
    steps.adapters.runs.release_hold(held, getpass.getuser(), why, steps.now())
    typer.echo(f"{run}/{generation} may be published: clear its task assess")
