"""One step at a time: what a task in Airflow does, from the command line."""

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli.options import (
    Again,
    Changes,
    ConfigName,
    Limit,
    Since,
    Until,
    now,
    raw_config,
    selection,
)
from mnist_ops.cli.snapshots import take_snapshot
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.settings import settings_of

if TYPE_CHECKING:
    from mnist_ops.wiring import Adapters

app = typer.Typer(help="Run one step on URIs that earlier steps printed.", no_args_is_help=True)

_ENDED_WITH_PARENT = 4  # nothing was wrong with the training: it may be tried again

Uris = Annotated[list[str] | None, typer.Argument(help="URIs of shards, as the step before printed them.")]


def _adapters() -> "Adapters":
    from mnist_ops.wiring import adapters_of_environment

    return adapters_of_environment(settings_of(os.environ), os.environ)


@app.command()
def snapshot(
    since: Since = None,
    until: Until = None,
    reclassify: Again = Reclassify.NEVER,
    limit: Limit = None,
    labelled: Annotated[bool, typer.Option(help="Take the human-labelled records.")] = False,
) -> None:
    """Take a snapshot; prints the manifest, then a part a line."""
    chosen = Selection(at=now(), labelled=True) if labelled else selection(since, until, reclassify, limit)
    uri, parts = take_snapshot(_adapters(), chosen)
    typer.echo(uri)
    for part in parts:
        typer.echo(part)


@app.command()
def fetch(
    part: Annotated[str, typer.Argument(help="A part: <manifest uri>#<number>.")],
    reuse: Annotated[bool, typer.Option(help="Reuse the images of the newest data set.")] = False,
) -> None:
    """Fetch a part's images; prints the image shard."""
    from mnist_ops.steps.fetch import fetch as fetch_images

    adapters = _adapters()
    with adapters.images() as images:
        known = adapters.datasets.newest_dataset() if reuse else None
        typer.echo(
            fetch_images(
                part,
                records=adapters.records,
                objects=adapters.objects,
                images=images,
                now=now,
                reuse_dataset=known,
            )
        )


@app.command()
def classify(images: Annotated[str, typer.Argument(help="An image shard.")]) -> None:
    """Classify an image shard; prints the prediction shard."""
    from mnist_ops.steps.classify import classify as classify_images

    adapters = _adapters()
    typer.echo(
        classify_images(
            images,
            objects=adapters.objects,
            load=adapters.load_classifier,
            review_below=adapters.settings.review_below,
            threads=adapters.settings.threads,
        )
    )


@app.command()
def assess(manifest: Annotated[str, typer.Argument(help="The manifest.")], predictions: Uris = None) -> None:
    """Hold all prediction shards of a manifest against the failure budget; prints the assessment."""
    from mnist_ops.steps.assess import assess as assess_run

    adapters = _adapters()
    typer.echo(
        assess_run(
            manifest,
            predictions or [],
            objects=adapters.objects,
            runs=adapters.runs,
            budget=adapters.settings.budget,
        )
    )


@app.command()
def publish(
    predictions: Annotated[str, typer.Argument(help="A prediction shard.")],
    assessment: Annotated[str, typer.Argument(help="The assessment.")],
) -> None:
    """Write a prediction shard into its records; prints the outcome shard."""
    from mnist_ops.steps.publish import publish as publish_predictions

    adapters = _adapters()
    typer.echo(
        publish_predictions(predictions, assessment, records=adapters.records, objects=adapters.objects)
    )


@app.command()
def reconcile(manifest: Annotated[str, typer.Argument(help="The manifest.")], outcomes: Uris = None) -> None:
    """Draw up the ledger of a manifest from its outcome shards; fails unless it adds up."""
    from mnist_ops.steps.reconcile import reconcile as reconcile_run

    adapters = _adapters()
    ledger = reconcile_run(
        manifest,
        outcomes or [],
        records=adapters.records,
        objects=adapters.objects,
        runs=adapters.runs,
        now=now,
        prices=adapters.settings.prices,
    )
    for outcome, count in ledger.outcomes.items():
        typer.echo(f"{outcome} {count}")


@app.command("build-dataset")
def build_dataset(
    manifest: Annotated[str, typer.Argument(help="The manifest.")], images: Uris = None
) -> None:
    """Make a data set of a labelled manifest and its image shards; prints its manifest."""
    from mnist_ops.steps.build_dataset import build_dataset as build

    adapters = _adapters()
    typer.echo(
        build(
            manifest,
            images or [],
            records=adapters.records,
            objects=adapters.objects,
            datasets=adapters.datasets,
        )
    )


@app.command()
def dataset_report(
    dataset: Annotated[str, typer.Argument(help="The data set's manifest.")],
    epochs: Annotated[int, typer.Option(help="Of each classifier that judges the labels.", min=1)] = 12,
) -> None:
    """Count a data set's classes and rank the labels that are likely wrong; prints the report."""
    from mnist_ops.steps.dataset_report import dataset_report as report_dataset
    from mnist_ops.vision.training.label_errors import OUT_OF_FOLD_CONFIG
    from mnist_ops.wiring import objects_of_environment

    settings = settings_of(os.environ)
    typer.echo(
        report_dataset(
            dataset,
            objects=objects_of_environment(settings, os.environ),
            config=OUT_OF_FOLD_CONFIG.model_copy(update={"epochs": epochs}),
            device=settings.device,
        )
    )


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="The data set's manifest.")],
    config_json: Annotated[str | None, typer.Option(help="Hyperparameters as a JSON object.")] = None,
    config: ConfigName = None,
    changes: Changes = None,
    result: Annotated[Path | None, typer.Option(help="Write the training's URI into this file too.")] = None,
    end_with_stdin: Annotated[
        bool, typer.Option("--end-with-stdin", help="End when standard input closes, with whoever holds it.")
    ] = False,
) -> None:
    """Train on a data set; prints the training."""
    from mnist_ops.cli.training_progress import train_with_progress
    from mnist_ops.wiring import objects_of_environment

    if end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    chosen = raw_config(config, changes, config_json).config()
    settings = settings_of(os.environ)
    uri = train_with_progress(dataset, objects_of_environment(settings, os.environ), chosen, settings)
    typer.echo(uri)
    if result is not None:
        result.write_text(uri)


def _end_with_stdin() -> None:
    # Not through sys.stdin, whose lock the interpreter wants back when it ends.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(_ENDED_WITH_PARENT)


@app.command()
def evaluate(training: Annotated[str, typer.Argument(help="A training.")]) -> None:
    """Measure a training and the champion on the test fold; prints the evaluation."""
    from mnist_ops.steps.evaluate import evaluate as evaluate_training

    adapters = _adapters()
    typer.echo(
        evaluate_training(
            training,
            objects=adapters.objects,
            models=adapters.models,
            model_name=adapters.settings.model_name,
            load=adapters.load_classifier,
        )
    )


@app.command()
def release(evaluation: Annotated[str, typer.Argument(help="An evaluation.")]) -> None:
    """Release a model and promote it if it may be; prints the version and the verdict."""
    from mnist_ops.cli.releases import release_evaluated

    verdict = release_evaluated(_adapters(), evaluation)
    became = "champion" if verdict.promoted else "candidate"
    typer.echo(f"{verdict.bundle.name} {verdict.bundle.version}: {became}, {verdict.why}")
