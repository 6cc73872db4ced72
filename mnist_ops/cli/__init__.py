"""The command line: `mnist-ops`. Every step also runs from here, without Airflow.

Exit codes: 0 done; 1 some items failed; 2 wrong usage or settings, or a connection that cannot be read; 3
permanent error, such as a connection that the server refuses; 4 transient error, a retry may work, such as a
server that is not reached. A command that needs an extra which is not installed names it and exits with 3. So
does an error that nobody expected: one line, and with -v its traceback.
"""

import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from mnist_ops.cli import (
    airflow,
    audits,
    backfills,
    config,
    experiments,
    garbage,
    init,
    models,
    predict,
    records,
    runs,
    serve,
    settings,
    stack,
    steps,
    watch,
)
from mnist_ops.cli._support.command_groups import CommandGroup
from mnist_ops.cli._support.endings import ending_of
from mnist_ops.cli._support.logs import log_from, start_log
from mnist_ops.domain.errors import UsageError
from mnist_ops.variables import unknown_variables

app = typer.Typer(
    name="mnist-ops",
    cls=CommandGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(runs.app, name="runs")
app.add_typer(records.app, name="records")
app.add_typer(steps.app, name="steps")
app.add_typer(audits.app, name="audits")
app.add_typer(models.app, name="models")
app.add_typer(backfills.app, name="backfills")
app.add_typer(experiments.app, name="experiments")
app.add_typer(config.app, name="config")
app.add_typer(stack.app, name="stack")
app.command("init")(init.init)
app.command("watch")(watch.watch)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)
app.command("gc")(garbage.gc)
app.command("settings")(settings.settings)
app.command("demo")(stack.demo)
app.command("airflow", cls=airflow.PassedThrough)(airflow.airflow)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnist-ops {version('mnist-ops')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[  # noqa: ARG001 (its callback prints it)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Log details too, and the traceback of an error that nobody expected."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False,
) -> None:
    """Airflow batch inference for the images that MongoDB records refer to by URL."""
    if verbose and quiet:
        raise UsageError("--verbose and --quiet: give one of them")
    if verbose or quiet:
        log_from(logging.DEBUG if verbose else logging.WARNING)


def main() -> None:
    """Run the command line; print an error as one line for each problem, and exit with its code."""
    start_log()
    _warn_of_unknown_variables()
    try:
        code = app(standalone_mode=False)
    except Exception as error:  # noqa: BLE001 (every error ends as a line and an exit code)
        ending = ending_of(error)
        for line in ending.lines:
            typer.echo(line, err=True)
        code = ending.code
        _drop_unwritten_output()
    sys.exit(code)


def _drop_unwritten_output() -> None:
    """Lose what could not be written: else Python reports it again at its end, with another exit code."""
    try:
        typer.echo(nl=False)  # which flushes, unless there is no standard output
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _warn_of_unknown_variables() -> None:
    # A shell that completes a command shows its own lines only.
    if "_MNIST_OPS_COMPLETE" not in os.environ:
        for warning in unknown_variables(os.environ).values():
            typer.echo(f"warning: {warning}", err=True)
