"""`mnist-ops sweep`: train every trial of a configuration here, and choose the one that validates best."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import Changes, ConfigName, pipeline, raw_config
from mnist_ops.domain.errors import Permanent

if TYPE_CHECKING:
    from rich.table import Table

    from mnist_ops.pipeline import Pipeline
    from mnist_ops.steps.choose import Choice
    from mnist_ops.vision.config.schema import TrainingConfig

_log = logging.getLogger(__name__)


def sweep(
    dataset: Annotated[str, typer.Argument(help="The data set's manifest.", show_default=False)],
    config: ConfigName = None,
    changes: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")] = False,
) -> None:
    """Train all trials of a configuration, one after the other; prints their table and the winner.

    Run again after it was killed, it goes on where it was. Exits with 1 if a trial failed.
    """
    require_extras("sweep", "train")
    from mnist_ops.steps.choose import read_choice

    trials = raw_config(config, changes).trials()
    steps = pipeline()
    uri = train_trials(steps, dataset, trials)
    choice = read_choice(steps.adapters.objects, uri)
    if as_json:
        typer.echo(json.dumps({"sweep": uri, **asdict(choice)}, sort_keys=True))
    else:
        _print(choice)
    raise typer.Exit(1 if len(choice.trials) < len(trials) else 0)


def train_trials(pipeline: "Pipeline", dataset: str, trials: "Sequence[TrainingConfig]") -> str:
    """Train some trials on a data set; returns the URI of their table. One that fails is left out.

    Args:
        pipeline: the steps.
        dataset: the data set's manifest.
        trials: at least one.

    Raises:
        Permanent: all of them failed; why the first did.
    """
    from mnist_ops.cli._support.training_progress import train_with_progress
    from mnist_ops.vision.config.sweep import differences

    trainings: list[str] = []
    failures: list[Permanent] = []
    for number, (config, different) in enumerate(zip(trials, differences(trials), strict=True), start=1):
        _log.info("trial %d of %d: %s", number, len(trials), json.dumps(different))
        try:
            trainings.append(train_with_progress(pipeline, dataset, config))
        except Permanent as error:
            _log.error("trial %d failed: %s", number, error)
            failures.append(error)
    if not trainings:
        raise failures[0]
    return pipeline.choose(trainings)


def best_training(pipeline: "Pipeline", dataset: str, trials: "Sequence[TrainingConfig]") -> str:
    """Train some trials on a data set; returns the URI of the training that validates best.

    Raises:
        Permanent: a trial failed.
    """
    from mnist_ops.cli._support.training_progress import train_with_progress
    from mnist_ops.steps.choose import read_choice

    if len(trials) == 1:
        return train_with_progress(pipeline, dataset, trials[0])
    choice = read_choice(pipeline.adapters.objects, train_trials(pipeline, dataset, trials))
    if failed := len(trials) - len(choice.trials):
        raise Permanent(f"{failed} of {len(trials)} trials failed: fix or remove them")
    return choice.winner


def _print(choice: "Choice") -> None:
    from rich.console import Console

    # Without a terminal there is no width to keep to.
    Console(width=None if sys.stdout.isatty() else 160).print(_table(choice))
    typer.echo(f"winner {choice.winner}")


def _table(choice: "Choice") -> "Table":
    from rich.table import Table
    from rich.text import Text

    fields = [*choice.trials[0].differences]
    table = Table("trial", *fields, "validation accuracy", "NLL", "best epoch", "parameters", "")
    for number, trial in enumerate(choice.trials, start=1):
        row = [
            str(number),
            *(json.dumps(trial.differences[field]) for field in fields),
            f"{trial.validation_accuracy:.4f}",
            f"{trial.validation_nll:.4f}",
            str(trial.best_epoch),
            f"{trial.parameters:,}",
            "winner" if trial.training == choice.winner else "",
        ]
        table.add_row(*map(Text, row))  # as text: brackets are markup else
    return table
