"""What follows the snapshot in a run of the command line: fetch, classify, assess, publish, reconcile."""

import typer

from mnist_ops.cli._support.ledger_tables import print_ledger
from mnist_ops.cli._support.part_progress import part_progress
from mnist_ops.cli._support.run_progress import RunProgress, progress_of
from mnist_ops.cli._support.tables import print_json
from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.run_summary import RunFailed
from mnist_ops.pipeline import Pipeline


def finish_run(steps: Pipeline, manifest: str, *, publish: bool, as_json: bool) -> None:
    """Do what is missing of a run, and print its ledger, or without `publish` its prediction shards.

    Raises:
        RunFailed: the run is red; its ledger is printed first.
    """
    progress = progress_of(steps, manifest)
    if progress.ledger is not None:
        print_ledger(progress.ledger, as_json=as_json)
        return
    predictions = _predictions(steps, progress)
    if not publish:
        _print_unpublished(manifest, predictions, as_json=as_json)
        return
    assessment = steps.assess(manifest, predictions)
    with part_progress("publish", progress.records) as done:
        outcomes = []
        for part, uri in zip(progress.parts, predictions, strict=True):
            outcomes.append(steps.publish(uri, assessment))
            done(part)
    try:
        ledger = steps.reconcile(manifest, outcomes)
    except RunFailed as failed:
        print_ledger(failed.ledger.document(), as_json=as_json)
        raise
    print_ledger(ledger.document(), as_json=as_json)


def _predictions(steps: Pipeline, progress: RunProgress) -> list[str]:
    """The prediction shards of all parts, in order; the missing ones are made."""
    predictions = dict(progress.predictions)
    with (
        steps.adapters.images() as images,
        part_progress("fetch and classify", progress.records) as done,
    ):
        for part, reference in progress.parts.items():
            if part in progress.images and part not in predictions:
                try:
                    predictions[part] = steps.classify(progress.images[part])
                except (ObjectMissing, Damaged) as error:
                    typer.echo(f"part {part} is fetched again: {error}", err=True)
            if part not in predictions:
                predictions[part] = steps.classify(steps.fetch(reference, images=images))
            done(part)
    return [predictions[part] for part in progress.parts]


def _print_unpublished(manifest: str, predictions: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"manifest": manifest, "predictions": predictions})
        return
    for uri in predictions:
        typer.echo(uri)
    typer.echo(f"nothing was written; to write the predictions: mnist-ops runs resume {manifest}")
