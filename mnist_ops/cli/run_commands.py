"""The whole pipeline without Airflow: `mnist-ops run classify|resume|train`."""

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli.options import (
    Again,
    Changes,
    ConfigName,
    Limit,
    Publish,
    Since,
    Until,
    now,
    raw_config,
    selection,
)
from mnist_ops.cli.snapshots import Progress, progress_of, take_snapshot
from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.settings import settings_of

if TYPE_CHECKING:
    from mnist_ops.wiring import Adapters

app = typer.Typer(help="Run the whole pipeline here, without Airflow.", no_args_is_help=True)


@app.command()
def classify(
    since: Since = None,
    until: Until = None,
    reclassify: Again = Reclassify.NEVER,
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option(help="Only count what would be taken.")] = False,
    publish: Publish = True,
) -> None:
    """Label waiting records: snapshot, fetch, classify, assess, publish, reconcile."""
    from mnist_ops.wiring import adapters_of_environment

    adapters = adapters_of_environment(settings_of(os.environ), os.environ)
    chosen = selection(since, until, reclassify, limit)
    if dry_run:
        typer.echo(f"{adapters.records.count(chosen)} records would be taken")
        return
    manifest, _ = take_snapshot(adapters, chosen)
    how = "" if publish else " --no-publish"
    typer.echo(f"if it is interrupted: mnist-ops run resume {manifest}{how}", err=True)
    _finish_run(adapters, manifest, publish=publish)


@app.command()
def resume(
    manifest: Annotated[str, typer.Argument(help="The run's snapshot, as `run classify` said.")],
    publish: Publish = True,
) -> None:
    """Go on with an interrupted `run classify`: do what it has not done yet, and write its predictions."""
    from mnist_ops.wiring import adapters_of_environment

    _finish_run(adapters_of_environment(settings_of(os.environ), os.environ), manifest, publish=publish)


def _finish_run(adapters: "Adapters", manifest: str, *, publish: bool) -> None:
    """Do what is left of a run after its snapshot."""
    from mnist_ops.steps.assess import assess
    from mnist_ops.steps.publish import publish as publish_predictions
    from mnist_ops.steps.reconcile import reconcile

    records, objects, settings = adapters.records, adapters.objects, adapters.settings
    progress = progress_of(adapters, manifest)
    if progress.ledger is not None:
        outcomes, reasons = (progress.ledger[name] for name in ("outcomes", "reasons"))
        typer.echo(json.dumps({"run": progress.ledger["run"], "outcomes": outcomes, "reasons": reasons}))
        return
    predictions = _predictions(adapters, progress)
    typer.echo(json.dumps({"manifest": manifest, "predictions": predictions}))
    if not publish:
        return
    verdict = assess(manifest, predictions, objects=objects, runs=adapters.runs, budget=settings.budget)
    shards = [publish_predictions(uri, verdict, records=records, objects=objects) for uri in predictions]
    ledger = reconcile(
        manifest,
        shards,
        records=records,
        objects=objects,
        runs=adapters.runs,
        now=now,
        prices=settings.prices,
    )
    typer.echo(
        json.dumps({"run": ledger.generation.run, "outcomes": ledger.outcomes, "reasons": ledger.reasons})
    )


def _predictions(adapters: "Adapters", progress: Progress) -> list[str]:
    """The prediction shards of all parts, in order; those that are not stored yet are made."""
    from mnist_ops.steps.classify import classify as classify_images
    from mnist_ops.steps.fetch import fetch

    def classified(shard: str) -> str:
        settings = adapters.settings
        return classify_images(
            shard,
            objects=adapters.objects,
            load=adapters.load_classifier,
            review_below=settings.review_below,
            threads=settings.threads,
        )

    predictions = dict(progress.predictions)
    with adapters.images() as images:
        for part, reference in progress.parts.items():
            if part in progress.images and part not in predictions:
                try:
                    predictions[part] = classified(progress.images[part])
                except (ObjectMissing, Damaged) as error:
                    typer.echo(f"part {part} is fetched again: {error}", err=True)
            if part not in predictions:
                shard = fetch(
                    reference, records=adapters.records, objects=adapters.objects, images=images, now=now
                )
                predictions[part] = classified(shard)
    return [predictions[part] for part in progress.parts]


@app.command()
def train(config: ConfigName = None, changes: Changes = None) -> None:
    """Train on the labelled records and release: snapshot, fetch, build, train, evaluate, release.

    Where the config has a sweep, all its trials are trained, and the one that validates best goes on.
    """
    from mnist_ops.cli.releases import release_evaluated
    from mnist_ops.cli.sweep_command import best_training
    from mnist_ops.cli.training_commands import evaluated
    from mnist_ops.steps.build_dataset import build_dataset
    from mnist_ops.steps.fetch import fetch
    from mnist_ops.wiring import adapters_of_environment

    trials = raw_config(config, changes).trials()
    adapters = adapters_of_environment(settings_of(os.environ), os.environ)
    records, objects, settings = adapters.records, adapters.objects, adapters.settings
    manifest, parts = take_snapshot(adapters, Selection(at=now(), labelled=True))
    if not parts:
        typer.echo("no record has a human label, so there is nothing to train on")
        return
    reuse = adapters.datasets.newest_dataset()
    with adapters.images() as images:
        shards = [
            fetch(part, records=records, objects=objects, images=images, now=now, reuse_dataset=reuse)
            for part in parts
        ]
    dataset = build_dataset(manifest, shards, records=records, objects=objects, datasets=adapters.datasets)
    training = best_training(dataset, objects, trials, settings)
    verdict = release_evaluated(adapters, evaluated(adapters, training))
    typer.echo(json.dumps(verdict.document(), sort_keys=True))
