"""What is done with a finished training: `mnist-ops test` and `mnist-ops release`."""

import getpass
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import pipeline
from mnist_ops.domain.ports import ObjectStore

if TYPE_CHECKING:
    from mnist_ops.steps.evaluate import Comparison

TrainingUri = Annotated[str, typer.Argument(help="The training's URI.", show_default=False)]
Epoch = Annotated[
    int | None, typer.Option(min=1, help="Take this epoch's checkpoint instead of the weights kept.")
]


def measure(
    training: TrainingUri,
    epoch: Epoch = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a training on the test fold, with the weights it kept or those of any epoch."""
    require_extras("test", "train")
    from mnist_ops.steps.evaluate import read_evaluation

    steps = pipeline()
    objects = steps.adapters.objects
    uri = steps.evaluate(_at(epoch, training, objects))
    comparison = read_evaluation(objects, uri)
    if as_json:
        measures = {fold: asdict(measured) for fold, measured in comparison.challenger.items()}
        named = {"training": comparison.training, "evaluation": uri, "temperature": comparison.temperature}
        typer.echo(json.dumps(named | measures, sort_keys=True))
    else:
        typer.echo("\n".join(_lines(comparison)))


def release(training: TrainingUri, epoch: Epoch = None) -> None:
    """Release a training, with the weights it kept or those of any epoch, and promote it if it may be."""
    require_extras("release", "train")
    steps = pipeline()
    evaluation = steps.evaluate(_at(epoch, training, steps.adapters.objects))
    candidate = steps.release_and_promote(evaluation, getpass.getuser())
    typer.echo(json.dumps(candidate.document(), sort_keys=True))


def _at(epoch: int | None, training: str, objects: ObjectStore) -> str:
    from mnist_ops.steps.train import at_epoch

    return training if epoch is None else at_epoch(training, epoch, objects=objects)


def _lines(comparison: "Comparison") -> list[str]:
    """The measures on the test fold, for people."""
    from mnist_ops.vision.data.folds import Fold

    test, plain = comparison.challenger[Fold.TEST], comparison.uncalibrated[Fold.TEST]
    interval = f"95 %: {test.accuracy_low:.4f} to {test.accuracy_high:.4f}"
    lines = [
        f"accuracy     {test.accuracy:.4f} ({test.correct} of {test.samples}; {interval})",
        f"NLL          {test.nll:.4f}",
        f"Brier        {test.brier:.4f}",
        f"ECE          {test.ece:.4f} ({plain.ece:.4f} before temperature)",
        f"temperature  {comparison.temperature:.4f}",
    ]
    if comparison.champion and comparison.champion_test:
        champion = comparison.champion_test
        lines.append(f"champion     version {comparison.champion.version}: accuracy {champion.accuracy:.4f}")
    return lines
