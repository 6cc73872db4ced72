"""`mnist-ops sweep`: train every trial of a configuration here, and choose the one that validates best."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import Changes, ConfigName, pipeline, raw_config
from mnist_ops.cli._support.tables import print_table

if TYPE_CHECKING:
    from mnist_ops.steps.choose import Choice


def sweep(
    dataset: Annotated[str, typer.Argument(help="The data set's manifest.", show_default=False)],
    config: ConfigName = None,
    changes: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")] = False,
) -> None:
    """Train all trials of a configuration, one after the other; prints their table and the winner.

    A sweep that was killed continues where it stopped when it is run again. Exits with 1 if a trial failed.
    """
    require_extras("sweep", "train")
    from mnist_ops.cli._support.trials import train_trials
    from mnist_ops.steps.choose import read_choice

    trials = raw_config(config, changes).trials()
    steps = pipeline()
    uri = train_trials(steps, dataset, trials)
    choice = read_choice(steps.adapters.objects, uri)
    if as_json:
        typer.echo(json.dumps({"sweep": uri, **asdict(choice)}, sort_keys=True))
    else:
        _print(choice)
    raise typer.Exit(ExitCode.SOME_FAILED if len(choice.trials) < len(trials) else ExitCode.DONE)


def _print(choice: "Choice") -> None:
    fields = [*choice.trials[0].differences]
    header = ["trial", *fields, "validation accuracy", "NLL", "best epoch", "parameters", ""]
    rows = [
        [
            str(number),
            *(json.dumps(trial.differences[field]) for field in fields),
            f"{trial.validation_accuracy:.4f}",
            f"{trial.validation_nll:.4f}",
            str(trial.best_epoch),
            f"{trial.parameters:,}",
            "winner" if trial.training == choice.winner else "",
        ]
        for number, trial in enumerate(choice.trials, start=1)
    ]
    print_table(header, rows, right=("trial", "best epoch", "parameters"))
    typer.echo(f"winner {choice.winner}")
