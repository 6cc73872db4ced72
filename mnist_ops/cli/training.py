"""Finished trainings: `mnist-ops test` and `mnist-ops release`."""

import getpass
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import pipeline
from mnist_ops.cli._support.tables import print_facts
from mnist_ops.domain.ports import ObjectStore

if TYPE_CHECKING:
    from mnist_ops.steps.evaluate import Comparison

TrainingUri = Annotated[str, typer.Argument(help="The training's URI.", show_default=False)]
Epoch = Annotated[
    int | None, typer.Option(min=1, help="Use this epoch's checkpoint instead of the kept weights.")
]


def measure(
    training: TrainingUri,
    epoch: Epoch = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a training on the test fold, with its kept weights or those of any epoch."""
    require_extras("test", "train")
    from mnist_ops.steps.evaluate import read_evaluation

    steps = pipeline()
    objects = steps.adapters.objects
    uri = steps.evaluate(_at(epoch, training, objects))
    comparison = read_evaluation(objects, uri)
    if as_json:
        document = {"training": comparison.training, "evaluation": uri, "temperature": comparison.temperature}
        folds = {fold: asdict(measures) for fold, measures in comparison.challenger.items()}
        typer.echo(json.dumps(document | folds, sort_keys=True))
    else:
        print_facts(_measures(comparison))


def release(training: TrainingUri, epoch: Epoch = None) -> None:
    """Release a training, with its kept weights or those of any epoch; promote it if the gate allows it."""
    require_extras("release", "train")
    steps = pipeline()
    evaluation = steps.evaluate(_at(epoch, training, steps.adapters.objects))
    candidate = steps.release_and_promote(evaluation, getpass.getuser())
    typer.echo(json.dumps(candidate.document(), sort_keys=True))


def _at(epoch: int | None, training: str, objects: ObjectStore) -> str:
    from mnist_ops.steps.train import at_epoch

    return training if epoch is None else at_epoch(training, epoch, objects=objects)


def _measures(comparison: "Comparison") -> Iterator[tuple[str, str]]:
    """Names and values of the measures on the test fold."""
    from mnist_ops.vision.data.folds import Fold

    test, uncalibrated = comparison.challenger[Fold.TEST], comparison.uncalibrated[Fold.TEST]
    interval = f"95 %: {test.accuracy_low:.4f} to {test.accuracy_high:.4f}"
    yield "accuracy", f"{test.accuracy:.4f} ({test.correct} of {test.samples}; {interval})"
    yield "NLL", f"{test.nll:.4f}"
    yield "Brier", f"{test.brier:.4f}"
    yield "ECE", f"{test.ece:.4f} ({uncalibrated.ece:.4f} before temperature)"
    yield "temperature", f"{comparison.temperature:.4f}"
    if comparison.champion and comparison.champion_test:
        accuracy = comparison.champion_test.accuracy
        yield "champion", f"version {comparison.champion.version}: accuracy {accuracy:.4f}"
