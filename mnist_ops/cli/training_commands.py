"""What is done with a finished training: `mnist-ops test` and `mnist-ops release`."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.settings import settings_of

if TYPE_CHECKING:
    from mnist_ops.steps.evaluate import Comparison
    from mnist_ops.wiring import Adapters

TrainingUri = Annotated[str, typer.Argument(help="The training's URI.", show_default=False)]
Epoch = Annotated[
    int | None, typer.Option(min=1, help="Take this epoch's checkpoint instead of the weights kept.")
]


def evaluated(adapters: "Adapters", training: str) -> str:
    """Measure a training, and the champion, on the test fold; returns the URI of the evaluation."""
    from mnist_ops.steps.evaluate import evaluate

    return evaluate(
        training,
        objects=adapters.objects,
        models=adapters.models,
        model_name=adapters.settings.model_name,
        load=adapters.load_classifier,
    )


def measure(
    training: TrainingUri,
    epoch: Epoch = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a training on the test fold, with the weights it kept or those of any epoch."""
    from mnist_ops.steps.evaluate import read_evaluation

    adapters = _adapters()
    uri = evaluated(adapters, _at(epoch, training, adapters))
    comparison = read_evaluation(adapters.objects, uri)
    if as_json:
        measures = {fold: asdict(measured) for fold, measured in comparison.challenger.items()}
        named = {"training": comparison.training, "evaluation": uri, "temperature": comparison.temperature}
        typer.echo(json.dumps(named | measures, sort_keys=True))
    else:
        typer.echo("\n".join(_lines(comparison)))


def release(training: TrainingUri, epoch: Epoch = None) -> None:
    """Release a training, with the weights it kept or those of any epoch, and promote it if it may be."""
    from mnist_ops.cli.releases import release_evaluated

    adapters = _adapters()
    verdict = release_evaluated(adapters, evaluated(adapters, _at(epoch, training, adapters)))
    typer.echo(json.dumps(verdict.document(), sort_keys=True))


def _adapters() -> "Adapters":
    from mnist_ops.wiring import adapters_of_environment

    return adapters_of_environment(settings_of(os.environ), os.environ)


def _at(epoch: int | None, training: str, adapters: "Adapters") -> str:
    from mnist_ops.steps.train import at_epoch

    return training if epoch is None else at_epoch(training, epoch, objects=adapters.objects)


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
