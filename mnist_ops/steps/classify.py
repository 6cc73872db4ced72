"""Classify: an image shard and the pinned bundle become a prediction shard."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mnist_ops.domain.errors import Damaged, ItemRejected, Permanent
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.review import REVIEW_BELOW, review_reason
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts import read_manifest
from mnist_ops.steps.bundles import download_bundle
from mnist_ops.steps.shards import Row, ShardHeader, ShardWriter, open_shard
from mnist_ops.vision.decode import decode
from mnist_ops.vision.inference import Verdicts


class Classifier(Protocol):
    """A loaded bundle."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by index."""

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities (N, classes) of images (N, 28, 28)."""

    def judge(self, images: npt.NDArray[np.uint8]) -> Verdicts:
        """The same probabilities, and whether each picture is a digit at all."""


Load = Callable[[Path, str], Classifier]


def classify(images_uri: str, *, objects: ObjectStore, load: Load, review_below: float = REVIEW_BELOW) -> str:
    """Classify the images of one shard with the bundle that its snapshot pinned.

    The same bytes are decoded and classified once. An image that cannot be decoded costs its
    own record a reason, and nothing else.

    Args:
        images_uri: the image shard.
        objects: where shards and bundles lie.
        load: loads a bundle from a folder, given its digest.
        review_below: a prediction with less confidence than this, 0 to 1, is marked for review; so is
            that of a picture which the bundle takes for no digit.

    Returns:
        The URI of the prediction shard: one row a record, in the part's order.
    """
    watch = Stopwatch("classify", objects.requests)
    with open_shard(objects, images_uri, "images") as images, ShardWriter("predictions") as shard:
        manifest = read_manifest(objects, images.header.manifest)
        if manifest.champion is None:
            raise Permanent(f"{images.header.manifest}: pins no bundle, so its records cannot be classified")
        with watch.reading(), tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
            classifier = load(
                download_bundle(objects, manifest.champion, Path(folder)), manifest.champion.digest
            )
        verdicts = _Verdicts(classifier, review_below)
        columns = ["record_id", "url", "reason", "detail", "retry_after_s", "sha256", "payload"]
        size = 0
        for rows in watch.reads(images.groups(columns)):
            with watch.computing():
                size += verdicts.add(rows)
                for row in rows:
                    del row["payload"]
                    shard.add(row if row["reason"] is not None else row | verdicts.of(row, images_uri))
        stages = {**images.header.stages, "classify": watch.report(shard.records, size)}
        header = ShardHeader(
            "predictions",
            images.header.manifest,
            images.header.part,
            shard.records,
            shard.failures,
            stages,
            classifier.labels,
        )
        return shard.store(objects, manifest.generation, header)


class _Verdicts:
    """What the classifier said of every different image of a part, by sha256."""

    def __init__(self, classifier: Classifier, review_below: float) -> None:
        self._classifier = classifier
        self._review_below = review_below
        self._verdicts: dict[str, Row] = {}

    def add(self, rows: Sequence[Row]) -> int:
        """Classify the images that come with these rows; returns their size in bytes."""
        digits, names, size = [], [], 0
        for row in rows:
            payload = row["payload"]
            if not isinstance(payload, bytes):
                continue
            size += len(payload)
            sha256 = str(row["sha256"])
            try:
                digits.append(decode(payload))
                names.append(sha256)
            except ItemRejected as rejection:
                self._verdicts[sha256] = {"reason": str(rejection.reason), "detail": rejection.detail}
        if digits:
            self._keep(names, self._classifier.judge(np.stack(digits)))
        return size

    def _keep(self, names: Sequence[str], judged: Verdicts) -> None:
        probabilities = judged.probabilities
        indexes = probabilities.argmax(axis=1)
        confidences = probabilities[np.arange(len(names)), indexes]
        columns = (probabilities, indexes, confidences, judged.scores, judged.not_a_digit)
        for name, row, index, confidence, score, not_a_digit in zip(
            names, *(column.tolist() for column in columns), strict=True
        ):
            reason = review_reason(confidence, not_a_digit=not_a_digit, review_below=self._review_below)
            self._verdicts[name] = {
                "probabilities": row,
                "index": index,
                "confidence": confidence,
                "needs_review": reason is not None,
                "review_reason": reason,
                "not_a_digit_score": score,
            }

    def of(self, row: Row, images_uri: str) -> Row:
        """The verdict on a row's image."""
        try:
            return self._verdicts[str(row["sha256"])]
        except KeyError:
            raise Damaged(
                f"{images_uri}: no row before record {row['record_id']} holds its image {row['sha256']}"
            ) from None
