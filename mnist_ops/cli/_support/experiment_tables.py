"""Tracked trainings and sweeps as rows and facts."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import typer

from mnist_ops.cli._support.tables import print_table

if TYPE_CHECKING:
    from mnist_ops.adapters.tracking.sqlite_reader import ExperimentRecord, Validation
    from mnist_ops.steps.choose import Choice

COLUMNS = ("name", "started", "status", "device", "config", "best accuracy")
VALIDATION_COLUMNS = ("epoch", "step", "train loss", "accuracy", "NLL", "learning rate")
RIGHT = frozenset({"best accuracy"})

_DIGEST = 12  # characters of a digest that are shown in lists
_ABSENT = "-"


def facts(record: "ExperimentRecord") -> dict[str, object]:
    """Names and values of what `experiments show` prints first."""
    facts: dict[str, object] = {
        "started": moment(record.experiment.started_at),
        "ended": moment(record.finished_at) if record.finished_at else None,
        "status": str(record.status),
        "why": record.why,
        "device": record.experiment.device,
        "dataset": record.experiment.dataset,
        "config digest": record.experiment.config_digest,
        "best epoch": record.best_epoch,
        "best accuracy": record.best_accuracy,
    }
    return {name: value for name, value in facts.items() if name != "why" or value}


def document(record: "ExperimentRecord") -> dict[str, object]:
    """An experiment without its config, metrics and environment, as JSON-able values."""
    experiment = record.experiment
    return {
        "name": experiment.name,
        "started_at": experiment.started_at,
        "finished_at": record.finished_at,
        "status": str(record.status),
        "why": record.why,
        "device": experiment.device,
        "dataset": experiment.dataset,
        "config_digest": experiment.config_digest,
        "best_epoch": record.best_epoch,
        "best_accuracy": record.best_accuracy,
    }


def experiment_row(record: "ExperimentRecord") -> list[str]:
    """The cells of `COLUMNS`."""
    experiment = record.experiment
    return [
        experiment.name,
        moment(experiment.started_at),
        str(record.status),
        experiment.device,
        experiment.config_digest.removeprefix("sha256:")[:_DIGEST],
        text(record.best_accuracy),
    ]


def validation_row(validation: "Validation") -> list[str]:
    """The cells of `VALIDATION_COLUMNS`."""
    measures = (validation.train_loss, validation.validation_accuracy, validation.validation_nll)
    numbers = [f"{measure:.4f}" for measure in measures]
    return [str(validation.epoch), str(validation.step), *numbers, text(validation.learning_rate)]


def pairs(one: "ExperimentRecord", two: "ExperimentRecord") -> Iterator[tuple[str, object, object]]:
    """The name of each compared value, with the value of the first and of the second experiment."""
    for prefix, of_one, of_two in (
        ("", _identity(one), _identity(two)),
        ("config.", one.experiment.config, two.experiment.config),
        ("", one.metrics, two.metrics),
    ):
        for name in {**of_one, **of_two}:
            yield f"{prefix}{name}", of_one.get(name), of_two.get(name)


def _identity(record: "ExperimentRecord") -> Mapping[str, object]:
    digest = record.experiment.dataset.removeprefix("sha256:")[:_DIGEST]
    return {"dataset": digest, "device": record.experiment.device, "status": str(record.status)}


def difference(first: object, second: object) -> str:
    """The second minus the first, or nothing unless both are numbers."""
    pair = (first, second)
    numbers = [value for value in pair if isinstance(value, int | float) and not isinstance(value, bool)]
    return f"{numbers[1] - numbers[0]:+.6g}" if len(numbers) == 2 else ""


def text(value: object) -> str:
    """A value as a cell."""
    if value is None:
        return _ABSENT
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def moment(at: datetime) -> str:
    """A time (UTC) as a cell."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def print_choice(choice: "Choice") -> None:
    """Print the trials of a sweep as a table, and the winner's URI below it."""
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
    print_table(header, rows, right=("trial", "validation accuracy", "NLL", "best epoch", "parameters"))
    typer.echo(f"winner {choice.winner}")
