"""The whole pipeline without Airflow: `mnist-ops run classify|resume|train`."""

import getpass
import json
from collections.abc import Mapping
from typing import Annotated

import typer

from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.options import (
    Again,
    Changes,
    ConfigName,
    Limit,
    Publish,
    Since,
    Until,
    pipeline,
    raw_config,
    selection,
)
from mnist_ops.cli._support.run_progress import Progress, new_generation, progress_of
from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.pipeline import Pipeline

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
    steps = pipeline()
    chosen = selection(since, until, reclassify, limit)
    if dry_run:
        typer.echo(f"{steps.count(chosen)} records would be taken")
        return
    manifest = steps.snapshot(new_generation(), chosen)
    option = "" if publish else " --no-publish"
    typer.echo(f"if it is interrupted: mnist-ops run resume {manifest}{option}", err=True)
    _finish_run(steps, manifest, publish=publish)


@app.command()
def resume(
    manifest: Annotated[str, typer.Argument(help="The manifest that `run classify` printed.")],
    publish: Publish = True,
) -> None:
    """Continue an interrupted `run classify`: do only what is missing, and write its predictions."""
    _finish_run(pipeline(), manifest, publish=publish)


def _finish_run(steps: Pipeline, manifest: str, *, publish: bool) -> None:
    """Do what is missing of a run after its snapshot, and print its outcomes."""
    progress = progress_of(steps, manifest)
    if progress.ledger is not None:
        _print_outcomes(progress.ledger)
        return
    predictions = _predictions(steps, progress)
    typer.echo(json.dumps({"manifest": manifest, "predictions": predictions}))
    if not publish:
        return
    assessment = steps.assess(manifest, predictions)
    ledger = steps.reconcile(manifest, [steps.publish(uri, assessment) for uri in predictions])
    _print_outcomes(ledger.document())


def _print_outcomes(ledger: Mapping[str, object]) -> None:
    typer.echo(json.dumps({name: ledger[name] for name in ("run", "outcomes", "reasons")}))


def _predictions(steps: Pipeline, progress: Progress) -> list[str]:
    """The prediction shards of all parts, in order; the missing ones are made."""
    predictions = dict(progress.predictions)
    with steps.adapters.images() as images:
        for part, reference in progress.parts.items():
            if part in progress.images and part not in predictions:
                try:
                    predictions[part] = steps.classify(progress.images[part])
                except (ObjectMissing, Damaged) as error:
                    typer.echo(f"part {part} is fetched again: {error}", err=True)
            if part not in predictions:
                predictions[part] = steps.classify(steps.fetch(reference, images=images))
    return [predictions[part] for part in progress.parts]


@app.command()
def train(config: ConfigName = None, changes: Changes = None) -> None:
    """Train on the labelled records and release: snapshot, fetch, build, train, evaluate, release.

    If the config has a sweep, all its trials are trained, and the one that validates best is released.
    """
    require_extras("run train", "train")
    from mnist_ops.cli._support.trials import best_training

    trials = raw_config(config, changes).trials()
    steps = pipeline()
    manifest = steps.snapshot(new_generation(), Selection(at=steps.now(), labelled=True))
    parts = steps.parts(manifest)
    if not parts:
        typer.echo("no record has a human label, so there is nothing to train on")
        return
    reuse = steps.adapters.datasets.newest_dataset()
    with steps.adapters.images() as images:
        shards = [steps.fetch(part, images=images, reuse_dataset=reuse) for part in parts]
    training = best_training(steps, steps.build_dataset(manifest, shards), trials)
    candidate = steps.release_and_promote(steps.evaluate(training), getpass.getuser())
    typer.echo(json.dumps(candidate.document(), sort_keys=True))
