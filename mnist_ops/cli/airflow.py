"""Airflow's own command line on the embedded stack: `mnist-ops airflow …`."""

import os
from typing import Any

import typer
from typer.core import TyperCommand

from mnist_ops.cli._support.extras import require_extras
from mnist_ops.domain.errors import UsageError


class PassedThrough(TyperCommand):
    """A command whose arguments are another program's, also `--help`, `--` and unknown options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer keeps the type private
        """Leave every argument as it is."""
        ctx.args = [*args]
        return []


def airflow(context: typer.Context) -> None:
    """Run Airflow's own command line on the running embedded stack; every argument is passed to it."""
    require_extras("airflow", "stack")
    from mnist_ops.cli._support.embedded_stack import airflow_command

    try:
        program, environment = airflow_command(os.environ)
    except UsageError:
        if context.args not in (["-h"], ["--help"]):
            raise
        typer.echo(context.get_help())
        return
    # Airflow gets the terminal, every signal, and the exit code; secrets are in its environment only.
    os.execve(program, [str(program), *context.args], environment)  # noqa: S606 (no shell reads the arguments)
