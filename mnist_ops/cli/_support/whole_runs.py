"""What follows the snapshot in a run of the command line: fetch, classify, assess, publish, reconcile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mnist_ops.cli._support.ledger_tables import print_ledger
from mnist_ops.cli._support.part_progress import part_progress
from mnist_ops.cli._support.run_progress import RunProgress, progress_of
from mnist_ops.cli._support.tables import print_json
from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.ports import ImageFetcher
from mnist_ops.domain.run_summary import RunFailed
from mnist_ops.pipeline import Pipeline

if TYPE_CHECKING:
    from mnist_ops.steps.artifacts.bundles import BundleCache


@dataclass(frozen=True, slots=True)
class OpenTools:
    """What a process opens once, and uses for every part.

    Attributes:
        images: an open fetcher.
        bundles: keeps the bundle; None to load it for each part.
    """

    images: ImageFetcher
    bundles: "BundleCache | None" = None


def finish_run(steps: Pipeline, manifest: str, *, publish: bool, as_json: bool) -> None:
    """Do what is missing of a run, and print its ledger, or without `publish` its prediction shards.

    Raises:
        RunFailed: the run is red; its ledger is printed first.
    """
    progress = progress_of(steps, manifest)
    if progress.ledger is not None:
        print_ledger(progress.ledger, as_json=as_json)
        return
    with (
        steps.adapters.images() as images,
        part_progress("fetch and classify", progress.records) as done,
    ):
        predictions = predictions_of(steps, progress, OpenTools(images), done)
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


def predictions_of(
    steps: Pipeline, progress: RunProgress, tools: OpenTools, done: Callable[[int], None]
) -> list[str]:
    """The prediction shards of all parts, in order; the missing ones are made.

    Args:
        steps: the pipeline.
        progress: how far the run has come.
        tools: what is open already.
        done: is called with the number of each part that is done.
    """
    predictions = dict(progress.predictions)
    for part, reference in progress.parts.items():
        if part in progress.images and part not in predictions:
            try:
                predictions[part] = steps.classify(progress.images[part], bundles=tools.bundles)
            except (ObjectMissing, Damaged) as error:
                typer.echo(f"part {part} is fetched again: {error}", err=True)
        if part not in predictions:
            images = steps.fetch(reference, images=tools.images)
            predictions[part] = steps.classify(images, bundles=tools.bundles)
        done(part)
    return [predictions[part] for part in progress.parts]


def _print_unpublished(manifest: str, predictions: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"manifest": manifest, "predictions": predictions})
        return
    for uri in predictions:
        typer.echo(uri)
    typer.echo(f"nothing was written; to write the predictions: mnist-ops runs resume {manifest}")
