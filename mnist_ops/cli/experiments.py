"""Tracked trainings: `mnist-ops experiments list|info|log|compare`, and `mnist-ops tensorboard`.

The experiments are read from the file that the tracker `sqlite` writes; no server is needed.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.tables import print_facts, print_table
from mnist_ops.settings import settings_of

if TYPE_CHECKING:
    from mnist_ops.adapters.tracking.sqlite_reader import ExperimentRecord, Experiments, Validation

app = typer.Typer(help="Tracked trainings: configs, metrics and comparisons.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="An experiment's name, its beginning, or a part that is unique.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
All = Annotated[bool, typer.Option("--all", help="Also show what is equal in both.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The port on 127.0.0.1.")]

_DIGEST = 12  # characters of a digest that are shown in lists
_ABSENT = "-"


@app.command("list")
def list_experiments() -> None:
    """List all experiments, newest first."""
    header = ("name", "started", "status", "device", "config", "best accuracy")
    rows = [
        (
            record.experiment.name,
            _moment(record.experiment.started_at),
            record.status,
            record.experiment.device,
            record.experiment.config_digest.removeprefix("sha256:")[:_DIGEST],
            _text(record.best_accuracy),
        )
        for record in _experiments().all()
    ]
    print_table(header, rows)


@app.command()
def info(name: Name) -> None:
    """Show an experiment: its config, its metrics, and what it ran on."""
    record = _experiments().find(name)
    for title, values in (
        (record.experiment.name, _facts(record)),
        ("config", record.experiment.config),
        ("metrics", record.metrics),
        ("environment", record.experiment.environment),
    ):
        typer.echo(f"{title}:")
        print_facts(((key, _text(value)) for key, value in values.items()), indent=2)


@app.command()
def log(name: Name, as_json: Json = False) -> None:
    """Show every validation of an experiment, in order."""
    experiments = _experiments()
    validations = experiments.log(experiments.find(name).experiment.name)
    if as_json:
        for validation in validations:
            typer.echo(json.dumps(_finite(asdict(validation))))
        return
    header = ("epoch", "step", "train loss", "accuracy", "NLL", "learning rate")
    print_table(header, [_row(validation) for validation in validations])


@app.command()
def compare(first: Name, second: Name, everything: All = False) -> None:
    """Show how two experiments differ in data, config and metrics; the difference is second minus first."""
    experiments = _experiments()
    one, two = experiments.find(first), experiments.find(second)
    rows = [
        (name, _text(mine), _text(other), _difference(mine, other))
        for name, mine, other in _pairs(one, two)
        if everything or mine != other
    ]
    if rows:
        print_table(("", one.experiment.name, two.experiment.name, "difference"), rows)
    else:
        typer.echo(f"{one.experiment.name} and {two.experiment.name} do not differ")


def tensorboard(port: Port = 6006) -> None:
    """Run TensorBoard over all experiments, on 127.0.0.1, until it is interrupted."""
    require_extras("tensorboard", "train")
    from mnist_ops.adapters.tracking.tensorboard import serve

    serve(settings_of(os.environ).tensorboard_dir, port)


def _experiments() -> "Experiments":
    from mnist_ops.adapters.tracking.sqlite_reader import Experiments

    return Experiments(settings_of(os.environ).experiments_file)


def _facts(record: "ExperimentRecord") -> dict[str, object]:
    facts: dict[str, object] = {
        "started": _moment(record.experiment.started_at),
        "ended": _moment(record.finished_at) if record.finished_at else None,
        "status": str(record.status),
        "why": record.why,
        "device": record.experiment.device,
        "dataset": record.experiment.dataset,
        "config digest": record.experiment.config_digest,
        "best epoch": record.best_epoch,
        "best accuracy": record.best_accuracy,
    }
    return {name: value for name, value in facts.items() if name != "why" or value}


def _row(validation: "Validation") -> list[str]:
    measures = (validation.train_loss, validation.validation_accuracy, validation.validation_nll)
    numbers = [f"{measure:.4f}" for measure in measures]
    return [str(validation.epoch), str(validation.step), *numbers, _text(validation.learning_rate)]


def _pairs(one: "ExperimentRecord", two: "ExperimentRecord") -> Iterator[tuple[str, object, object]]:
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


def _difference(first: object, second: object) -> str:
    """The second minus the first, or nothing unless both are numbers."""
    pair = (first, second)
    numbers = [value for value in pair if isinstance(value, int | float) and not isinstance(value, bool)]
    return f"{numbers[1] - numbers[0]:+.6g}" if len(numbers) == 2 else ""


def _text(value: object) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _finite(values: Mapping[str, object]) -> dict[str, object]:
    """Replace NaN and infinity, which JSON does not have, by null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
