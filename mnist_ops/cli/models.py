"""Models: `mnist-ops models list|show|promote|rollback` for released ones, `test|release` for trainings."""

import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from mnist_ops.cli._support import model_tables
from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import Json, pipeline
from mnist_ops.cli._support.tables import print_facts, print_json, print_table
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.ports import ObjectStore, RegisteredModel
from mnist_ops.pipeline import Ports

app = command_group("Released models, and which one is the champion.")

Version = Annotated[int, typer.Argument(min=1, help="The version, as `models list` shows it.")]
Why = Annotated[str, typer.Option(help="The reason, which is kept in the history with your name.")]
TrainingUri = Annotated[str, typer.Argument(help="The training's URI.", show_default=False)]
Epoch = Annotated[
    int | None, typer.Option(min=1, help="Use this epoch's checkpoint instead of the kept weights.")
]

_CARD_FIELDS = ("architecture", "hyperparameters", "temperature", "dataset_digest")


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List all versions, oldest first."""
    adapters = pipeline().adapters
    name = adapters.settings.model_name
    history = adapters.models.history(name)
    registered = adapters.models.models(name)
    if as_json:
        for model in registered:
            print_json(model_tables.document(model, history))
        return
    if not registered:
        typer.echo(f"no {name} was released yet")
        return
    print_table(
        model_tables.COLUMNS,
        [model_tables.row(model, history) for model in registered],
        right=model_tables.RIGHT,
        title=name,
    )


@app.command()
def show(version: Version, as_json: Json = False) -> None:
    """Show a version: its training, its metrics, and its history as champion."""
    from mnist_ops.steps.artifacts.bundles import read_card

    adapters = pipeline().adapters
    model = _model(adapters, version)
    history = adapters.models.history(model.bundle.name)
    card = read_card(adapters.objects, model.bundle)
    summary = {name: card.get(name) for name in _CARD_FIELDS}
    changes = [change for change in history if model.bundle in (change.bundle, change.former)]
    if as_json:
        extra = {"card": summary, "history": [model_tables.change_document(change) for change in changes]}
        print_json(model_tables.document(model, history) | extra)
        return
    print_facts(model_tables.facts(model, history, summary))
    for change in changes:
        typer.echo(model_tables.change_line(change))


@app.command()
def promote(
    version: Version,
    why: Why,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Promote it even if the gate refused it, or compared it with another champion."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a version the champion. If the gate refused it, --force is needed."""
    steps = pipeline()
    model = _model(steps.adapters, version)
    changed = steps.promote_version(model, Promotion(steps.now(), getpass.getuser(), why), force=force)
    state = "is the champion" if changed else "was the champion already"
    _print_champion(model.bundle.name, version, state, as_json=as_json)


@app.command()
def rollback(why: Why, as_json: Json = False) -> None:
    """Restore the previous champion; each repetition goes one further back."""
    steps = pipeline()
    restored = steps.rollback(getpass.getuser(), why)
    _print_champion(restored.name, restored.version, "is the champion again", as_json=as_json)


@app.command("test")
def measure(
    training: TrainingUri,
    epoch: Epoch = None,
    as_json: Json = False,
) -> None:
    """Measure a training on the test fold, with its kept weights or those of any epoch."""
    require_extras("models test", "train")
    from mnist_ops.steps.evaluate import read_evaluation

    steps = pipeline()
    objects = steps.adapters.objects
    uri = steps.evaluate(_at(epoch, training, objects))
    comparison = read_evaluation(objects, uri)
    if as_json:
        document = {"training": comparison.training, "evaluation": uri, "temperature": comparison.temperature}
        folds = {fold: asdict(measures) for fold, measures in comparison.challenger.items()}
        print_json(document | folds)
    else:
        print_facts(model_tables.measures(comparison))


@app.command()
def release(training: TrainingUri, epoch: Epoch = None, as_json: Json = False) -> None:
    """Release a training, with its kept weights or those of any epoch; promote it if the gate allows it."""
    require_extras("models release", "train")
    steps = pipeline()
    evaluation = steps.evaluate(_at(epoch, training, steps.adapters.objects))
    candidate = steps.release_and_promote(evaluation, getpass.getuser())
    model_tables.print_gate_result(candidate, as_json=as_json)


def _print_champion(name: str, version: int, state: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "champion": version})
    else:
        typer.echo(f"{name} {version} {state}")


def _model(adapters: Ports, version: int) -> RegisteredModel:
    name = adapters.settings.model_name
    models = {model.bundle.version: model for model in adapters.models.models(name)}
    if version not in models:
        known = ", ".join(map(str, models)) or "none"
        raise UsageError(f"{name} has no version {version}; released are: {known}")
    return models[version]


def _at(epoch: int | None, training: str, objects: ObjectStore) -> str:
    from mnist_ops.steps.train import at_epoch

    return training if epoch is None else at_epoch(training, epoch, objects=objects)
