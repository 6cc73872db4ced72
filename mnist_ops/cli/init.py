"""`mnist-ops init`: create what the pipeline needs."""

import os

import typer

from mnist_ops.settings import settings_of


def init() -> None:
    """Create the indexes and the bucket that the pipeline needs; safe to repeat."""
    from mnist_ops.wiring import adapters_of_environment

    adapters = adapters_of_environment(settings_of(os.environ), os.environ)
    # Before the indexes, which make a collection of any name.
    empty = adapters.records.empty_collection()
    if empty is not None:
        typer.echo(f"warning: {empty}", err=True)
    for name in (*adapters.records.ensure_indexes(), *adapters.runs.ensure_indexes()):
        typer.echo(f"index {name}")
    adapters.objects.ensure_bucket()
    typer.echo(f"bucket {adapters.settings.s3_bucket}")
