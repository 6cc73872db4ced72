"""Classify: an image shard and the pinned bundle become a prediction shard."""

import logging

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.outcome_lines import failure_lines, log_lines, prediction_lines
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.bundles import BundleCache, Load
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.row_counts import by_label
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, PREDICTIONS
from mnist_ops.steps.artifacts.shards import ShardHeader, ShardWriter, open_shard
from mnist_ops.steps.classify_pipeline import ClassifyPipeline
from mnist_ops.steps.earlier_images import borrowed_images
from mnist_ops.steps.prediction_table import PredictionTable
from mnist_ops.vision.inference.cpu_count import cpu_count

_log = logging.getLogger(__name__)

_COLUMNS = ["record_id", "url", "reason", "detail", "retry_after_s", "sha256", "payload"]


def classify(
    images_uri: str,
    *,
    objects: ObjectStore,
    load: Load,
    review_below: float = 0.9,
    threads: int | None = None,
    bundles: BundleCache | None = None,
) -> str:
    """Classify the images of one shard with the bundle that its snapshot pinned.

    Equal bytes are decoded and classified once. An image that cannot be decoded becomes a reason in the rows
    of its records; all other records are classified.

    Args:
        images_uri: the image shard.
        objects: the store of shards and bundles.
        load: loads a bundle from a folder, given its digest.
        review_below: a prediction with less confidence than this, 0 to 1, is marked for review; so is the
            prediction of an image that the bundle does not take for a digit.
        threads: the number of threads that decode and classify; None for one a core.
        bundles: has the bundle, if the caller classifies again and again.

    Returns:
        The URI of the prediction shard: one row a record, in the part's order.
    """
    watch = Stopwatch("classify", objects.requests, objects.moved)
    with open_shard(objects, images_uri, IMAGES) as images, ShardWriter(PREDICTIONS) as shard:
        manifest = read_manifest(objects, images.header.manifest)
        champion = manifest.champion
        if champion is None:
            raise Permanent(f"{images.header.manifest}: pins no bundle, so its records cannot be classified")
        table = PredictionTable(images.records, review_below)
        with ClassifyPipeline(
            lambda: (bundles or BundleCache()).load(objects, champion, load),
            table,
            watch,
            threads or cpu_count(),
        ) as pipeline:
            borrowed = (group for _, group in borrowed_images(objects, images, images_uri))
            for _ in pipeline.classified(borrowed):
                pass
            for group in pipeline.classified(images.groups(_COLUMNS)):
                with watch.writing():
                    shard.add_group(table.columns(group))
            classifier = pipeline.classifier
        report = watch.report(shard.records, pipeline.image_bytes)
        counts = shard.counts
        predicted = by_label(counts.predictions, classifier.labels)
        _log.info("%d records, %d predictions", shard.records, counts.predictions.total())
        log_lines(_log, prediction_lines(predicted, counts.needs_review))
        log_lines(_log, failure_lines(counts.failures, counts.examples))
        header = ShardHeader(
            kind=PREDICTIONS.name,
            manifest=images.header.manifest,
            part=images.header.part,
            records=shard.records,
            failures=dict(counts.failures),
            stages={**images.header.stages, "classify": report},
            source=images_uri,
            refers_to=(images_uri, *images.header.refers_to),
            labels=classifier.labels,
            examples=counts.examples,
            predicted=predicted,
            needs_review=counts.needs_review,
        )
        return shard.store(objects, manifest.generation, header)
