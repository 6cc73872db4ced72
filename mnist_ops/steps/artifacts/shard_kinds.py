"""The three kinds of shards: their columns, and the types of their rows.

A row of image or prediction shards either has a reason, or has what the step made. A null column is None in
a row that was read, and may be left out of one that is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypedDict, TypeVar

import pyarrow as pa


class FetchedRow(TypedDict, total=False):
    """An image shard's row of a record whose image is there."""

    record_id: str
    url: str | None
    reason: None
    detail: None
    sha256: str
    payload: bytes | None
    image_uri: str | None
    http_status: int | None
    bytes: int | None
    etag: str | None
    last_modified: str | None
    fetched_at: datetime


class UnfetchedRow(TypedDict, total=False):
    """An image shard's row of a record without an image."""

    record_id: str
    url: str | None
    reason: str
    detail: str
    retry_after_s: float | None
    sha256: None
    payload: None
    image_uri: None
    http_status: int | None
    fetched_at: datetime


class PredictedRow(TypedDict, total=False):
    """A prediction shard's row of a record whose image was classified."""

    record_id: str
    url: str
    reason: None
    detail: None
    sha256: str
    probabilities: list[float]
    index: int
    confidence: float
    needs_review: bool
    review_reason: str | None
    not_a_digit_score: float


class UnpredictedRow(TypedDict, total=False):
    """A prediction shard's row of a record whose image could not be fetched or decoded."""

    record_id: str
    url: str | None
    reason: str
    detail: str
    retry_after_s: float | None
    sha256: str | None


class OutcomeRow(TypedDict, total=False):
    """An outcome shard's row; `outcome` is a name of `Outcome`."""

    record_id: str
    outcome: str
    reason: str | None
    detail: str | None


ImageRow = FetchedRow | UnfetchedRow
PredictionRow = PredictedRow | UnpredictedRow

RowT = TypeVar("RowT", bound=Mapping[str, object])


@dataclass(frozen=True, slots=True)
class ShardKind(Generic[RowT]):
    """A kind of shards, of which a snapshot's part has one each.

    Attributes:
        name: the first folder of its keys.
        step: the step that writes it.
        schema: its columns.
    """

    name: str
    step: str
    schema: pa.Schema


_REJECTION = [("reason", pa.dictionary(pa.int8(), pa.string())), ("detail", pa.string())]
# Classify copies these from the image shard.
_IMAGE = [
    ("record_id", pa.string()),
    ("url", pa.string()),
    *_REJECTION,
    ("retry_after_s", pa.float32()),
    ("sha256", pa.string()),
]

IMAGES: ShardKind[ImageRow] = ShardKind(
    "images",
    "fetch",
    pa.schema(
        [
            *_IMAGE,
            # On the first row of its sha256 within the shard, and nowhere else.
            ("payload", pa.binary()),
            # The earlier shard that holds the payload, where this one does not.
            ("image_uri", pa.string()),
            ("http_status", pa.int16()),
            ("bytes", pa.int32()),
            # The validators of the answer: a later fetch asks with them whether the image has changed.
            ("etag", pa.string()),
            ("last_modified", pa.string()),
            ("fetched_at", pa.timestamp("ms", "UTC")),
        ]
    ),
)

PREDICTIONS: ShardKind[PredictionRow] = ShardKind(
    "predictions",
    "classify",
    pa.schema(
        [
            *_IMAGE,
            ("probabilities", pa.list_(pa.float32(), 10)),
            ("index", pa.int8()),
            ("confidence", pa.float32()),
            ("needs_review", pa.bool_()),
            ("review_reason", pa.dictionary(pa.int8(), pa.string())),
            # The higher, the less like a digit; the bundle's card has the threshold.
            ("not_a_digit_score", pa.float32()),
        ]
    ),
)

OUTCOMES: ShardKind[OutcomeRow] = ShardKind(
    "outcomes",
    "publish",
    pa.schema([("record_id", pa.string()), ("outcome", pa.dictionary(pa.int8(), pa.string())), *_REJECTION]),
)

SHARD_KINDS: Mapping[str, ShardKind[Any]] = {kind.name: kind for kind in (IMAGES, PREDICTIONS, OUTCOMES)}
