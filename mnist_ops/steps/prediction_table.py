"""The predictions and rejections of a part's images, as columns of its prediction shard."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ItemRejected
from mnist_ops.domain.review import ReviewReason, review_reason
from mnist_ops.steps.artifacts.shard_kinds import PREDICTIONS
from mnist_ops.vision.data.examples import CLASSES
from mnist_ops.vision.inference.classifier import Predictions


class PredictionTable:
    """The predictions for a part's images by their sha256, in arrays: about 200 bytes an image.

    Args:
        capacity: the largest number of different images.
        review_below: a prediction with less confidence than this, 0 to 1, is marked for review.
    """

    def __init__(self, capacity: int, review_below: float) -> None:
        self._review_below = review_below
        self._positions: dict[str, int] = {}
        self._rejections: dict[str, ItemRejected] = {}
        self._probabilities = np.zeros((capacity, CLASSES), np.float32)
        self._scores = np.zeros(capacity, np.float32)
        self._reviews: list[ReviewReason | None] = []

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._positions or sha256 in self._rejections

    def reject(self, sha256: str, rejection: ItemRejected) -> None:
        """Add an image that cannot be decoded."""
        self._rejections[sha256] = rejection

    def add(self, digests: Sequence[str], predictions: Predictions) -> None:
        """Add the predictions for N images, named by their sha256 in the same order."""
        first = len(self._reviews)
        rows = slice(first, first + len(digests))
        self._positions.update(zip(digests, range(rows.start, rows.stop), strict=True))
        self._probabilities[rows] = predictions.probabilities
        self._scores[rows] = predictions.scores
        confidences = predictions.probabilities.max(axis=1).tolist()
        self._reviews += [
            review_reason(confidence, not_a_digit=not_a_digit, review_below=self._review_below)
            for confidence, not_a_digit in zip(confidences, predictions.not_a_digit.tolist(), strict=True)
        ]

    def columns(self, images: pa.Table) -> Mapping[str, pa.Array | pa.ChunkedArray]:
        """The columns of a prediction shard for rows of an image shard.

        Raises:
            Damaged: a row's image was neither added nor rejected.
        """
        digests = images["sha256"].to_pylist()
        positions = np.array([self._positions.get(sha256, -1) for sha256 in digests], np.intp)
        none = positions < 0
        probabilities = self._probabilities[positions]
        index = probabilities.argmax(axis=1)
        reviews = [self._reviews[position] if position >= 0 else None for position in positions.tolist()]
        flagged = np.fromiter((reason is not None for reason in reviews), np.bool_, len(reviews))
        copied = {name: images[name] for name in ("record_id", "url", "retry_after_s", "sha256")}
        return {
            **copied,
            **self._failures(images, digests, none),
            "probabilities": pa.FixedSizeListArray.from_arrays(
                pa.array(probabilities.ravel()), CLASSES, mask=pa.array(none)
            ),
            "index": pa.array(index.astype(np.int8), mask=none),
            "confidence": pa.array(probabilities[np.arange(len(positions)), index], mask=none),
            "needs_review": pa.array(flagged, mask=none),
            "review_reason": pa.array(reviews, PREDICTIONS.schema.field("review_reason").type),
            "not_a_digit_score": pa.array(self._scores[positions], mask=none),
        }

    def _failures(
        self, images: pa.Table, digests: Sequence[str], none: np.ndarray
    ) -> Mapping[str, pa.Array | pa.ChunkedArray]:
        """The columns `reason` and `detail`: from the fetch, and of images that cannot be decoded."""
        fetched = pc.is_null(images["reason"]).to_numpy()
        undecoded = np.flatnonzero(none & fetched).tolist()
        columns = {name: images[name] for name in ("reason", "detail")}
        if not undecoded:
            return columns
        lists = {name: column.to_pylist() for name, column in columns.items()}
        for row in undecoded:
            rejection = self._rejections.get(digests[row])
            if rejection is None:
                record_id = images["record_id"][row].as_py()
                raise Damaged(f"no row before record {record_id} holds its image {digests[row]}")
            lists["reason"][row], lists["detail"][row] = str(rejection.reason), rejection.detail
        return {name: pa.array(values, PREDICTIONS.schema.field(name).type) for name, values in lists.items()}
