"""Experiments: `mnist-ops experiments list|show|log|compare|sweep|tensorboard`.

Experiments are read from the file that the tracker `sqlite` writes; no server is needed.
"""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support import experiment_tables
from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import Changes, ConfigName, Json, pipeline, raw_config
from mnist_ops.cli._support.tables import print_facts, print_json, print_table
from mnist_ops.settings import settings_of

if TYPE_CHECKING:
    from mnist_ops.adapters.tracking.sqlite_reader import Experiments

app = command_group("Tracked trainings: configs, metrics, comparisons and sweeps.")

Name = Annotated[str, typer.Argument(help="An experiment's name, its beginning, or a part that is unique.")]
All = Annotated[bool, typer.Option("--all", help="Also show what is equal in both.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The port on 127.0.0.1.")]


@app.command("list")
def list_experiments(as_json: Json = False) -> None:
    """List all experiments, newest first."""
    file = settings_of(os.environ).experiments_file
    records = _experiments().all() if file.exists() else ()
    if as_json:
        for record in records:
            print_json(experiment_tables.document(record))
    elif not records:
        typer.echo(f"no training has been tracked in {file} yet")
    else:
        rows = map(experiment_tables.experiment_row, records)
        print_table(experiment_tables.COLUMNS, rows, right=experiment_tables.RIGHT)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show an experiment: its config, its metrics, and what it ran on."""
    record = _experiments().find(name)
    parts = {
        "config": record.experiment.config,
        "metrics": record.metrics,
        "environment": record.experiment.environment,
    }
    if as_json:
        print_json(experiment_tables.document(record) | parts)
        return
    for title, values in ((record.experiment.name, experiment_tables.facts(record)), *parts.items()):
        typer.echo(f"{title}:")
        print_facts(((key, experiment_tables.text(value)) for key, value in values.items()), indent=2)


@app.command()
def log(name: Name, as_json: Json = False) -> None:
    """Show every validation of an experiment, in order."""
    experiments = _experiments()
    validations = experiments.log(experiments.find(name).experiment.name)
    if as_json:
        for validation in validations:
            print_json(asdict(validation))
    elif not validations:
        typer.echo("no validation yet")
    else:
        columns = experiment_tables.VALIDATION_COLUMNS
        print_table(columns, map(experiment_tables.validation_row, validations), right=columns)


@app.command()
def compare(first: Name, second: Name, everything: All = False, as_json: Json = False) -> None:
    """Show how two experiments differ in data, config and metrics; the difference is second minus first."""
    experiments = _experiments()
    one, two = experiments.find(first), experiments.find(second)
    found = [pair for pair in experiment_tables.pairs(one, two) if everything or pair[1] != pair[2]]
    if as_json:
        for name, mine, other in found:
            print_json({"name": name, one.experiment.name: mine, two.experiment.name: other})
    elif found:
        rows = [
            (name, *map(experiment_tables.text, (mine, other)), experiment_tables.difference(mine, other))
            for name, mine, other in found
        ]
        print_table(("", one.experiment.name, two.experiment.name, "difference"), rows)
    else:
        typer.echo(f"{one.experiment.name} and {two.experiment.name} do not differ")


@app.command()
def sweep(
    dataset: Annotated[str, typer.Argument(help="The data set's manifest.", show_default=False)],
    config: ConfigName = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Train all trials of a configuration, one after the other; prints their table and the winner.

    A sweep that was killed continues where it stopped when it is run again. Exits with 1 if a trial failed.
    """
    require_extras("experiments sweep", "train")
    trials = raw_config(config, changes).trials()
    from mnist_ops.cli._support.trials import train_trials
    from mnist_ops.steps.choose import read_choice

    steps = pipeline()
    uri = train_trials(steps, dataset, trials)
    choice = read_choice(steps.adapters.objects, uri)
    if as_json:
        print_json({"sweep": uri, **asdict(choice)})
    else:
        experiment_tables.print_choice(choice)
    raise typer.Exit(ExitCode.SOME_FAILED if len(choice.trials) < len(trials) else ExitCode.DONE)


@app.command()
def tensorboard(port: Port = 6006) -> None:
    """Run TensorBoard over all experiments, on 127.0.0.1, until it is interrupted."""
    require_extras("experiments tensorboard", "train")
    from mnist_ops.adapters.tracking.tensorboard import serve

    serve(settings_of(os.environ).tensorboard_dir, port)


def _experiments() -> "Experiments":
    from mnist_ops.adapters.tracking.sqlite_reader import Experiments

    return Experiments(settings_of(os.environ).experiments_file)
