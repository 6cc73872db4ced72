"""Commands for those who run a deployment."""

import getpass
import json
import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from mnist_ops.settings import settings_of


def init() -> None:
    """Make the indexes and the bucket that the pipeline needs; safe to repeat."""
    from mnist_ops.wiring import adapters_of_environment

    adapters = adapters_of_environment(settings_of(os.environ), os.environ)
    for name in adapters.records.ensure_indexes():
        typer.echo(f"index {name}")
    adapters.objects.ensure_bucket()
    typer.echo(f"bucket {adapters.settings.s3_bucket}")


def ledgers(run: Annotated[str, typer.Argument(help="A run key, or how one begins.")] = "") -> None:
    """Print the ledgers of runs, oldest first, one JSON object a line."""
    from mnist_ops.wiring import adapters_of_environment

    for ledger in adapters_of_environment(settings_of(os.environ), os.environ).runs.ledgers(run):
        typer.echo(json.dumps(ledger, default=_text, sort_keys=True))


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def release_hold(
    run: Annotated[str, typer.Argument(help="The run key, as the held run's log names it.")],
    why: Annotated[str, typer.Option(help="Why it may be published all the same.")],
    generation: Annotated[int, typer.Option(min=0, help="The generation.")] = 0,
) -> None:
    """Allow a held run to be published; then clear its task `assess`."""
    from mnist_ops.domain.keys import Generation
    from mnist_ops.wiring import adapters_of_environment

    runs = adapters_of_environment(settings_of(os.environ), os.environ).runs
    runs.release_hold(Generation(run, generation), getpass.getuser(), why, datetime.now(UTC))
    typer.echo(f"{run}/{generation} may be published: clear its task assess")
