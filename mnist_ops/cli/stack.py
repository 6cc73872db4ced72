"""The embedded stack and the demo: `mnist-ops stack up|down|status`, `mnist-ops demo`."""

import os
from dataclasses import asdict
from typing import Annotated

import typer

from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import Json
from mnist_ops.cli._support.tables import print_facts, print_json

app = command_group("The embedded stack: MongoDB's protocol, S3, PostgreSQL, images, Airflow.")


@app.command()
def up(as_json: Json = False) -> None:
    """Start the stack, or the parts of it that do not run, and wait until all of them answer."""
    require_extras("stack up", "stack")
    from mnist_ops.cli._support.embedded_stack import start_stack

    addresses = start_stack(os.environ)
    if as_json:
        print_json(addresses)
    else:
        print_facts(addresses.items())


@app.command()
def down() -> None:
    """Stop the stack, and that of a demo that was kept. Data and logs stay."""
    require_extras("stack down", "stack")
    from mnist_ops.cli._support.embedded_stack import stop_stacks

    stopped = stop_stacks()
    typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def status(as_json: Json = False) -> None:
    """Show the state of every part of the stack. Exits with 1 unless all answer."""
    require_extras("stack status", "stack")
    from mnist_ops.cli._support.embedded_stack import stack_status

    parts = stack_status(os.environ)
    if as_json:
        for part in parts:
            print_json(asdict(part))
    else:
        print_facts(
            (part.name, part.missing or f"answers, pid {part.pid}, {part.memory_bytes >> 20} MiB")
            for part in parts
        )
    raise typer.Exit(ExitCode.SOME_FAILED if any(part.missing for part in parts) else ExitCode.DONE)


def demo(keep: Annotated[bool, typer.Option(help="Leave the stack running afterwards.")] = False) -> None:
    """Classify 1,500 records through real Airflow runs, on an embedded stack, and check every number."""
    require_extras("demo", "stack", "train")
    from mnist_ops.cli._support.embedded_stack import run_demo

    raise typer.Exit(ExitCode.DONE if run_demo(os.environ, keep=keep) else ExitCode.SOME_FAILED)
