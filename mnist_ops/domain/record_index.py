"""What pages ask of the records: counts with a bound, and a reviewer's label."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from mnist_ops.domain.records import RecordHead


@dataclass(frozen=True, slots=True)
class BoundedCount:
    """A count that stops at a bound, so that it costs the same in a collection of any size.

    Attributes:
        count: what was counted.
        more: whether the counting stopped at its bound, so that there may be more.
    """

    count: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.count:,}+" if self.more else f"{self.count:,}"


@dataclass(frozen=True, slots=True)
class LabelChange:
    """A reviewer's label for a record, written only while the record is as the reviewer saw it.

    Attributes:
        head: the record as the reviewer saw it; its label, image URL and prediction are compared.
        label: the label's name.
        by: the reviewer.
        at: when (UTC, whole milliseconds). With `by` it is the identity of the review.
    """

    head: RecordHead
    label: str
    by: str
    at: datetime

    @property
    def confirmed(self) -> bool:
        """Whether the label is the predicted one."""
        return (self.head.prediction or {}).get("label") == self.label

    def document(self) -> dict[str, object]:
        """The review as it is written into the record, without the former label."""
        stamp = self.head.stamp
        return {
            "label": self.label,
            "by": self.by,
            "at": self.at,
            "confirmed": self.confirmed,
            "prediction": {"run": stamp.run, "generation": stamp.generation, "digest": stamp.digest},
        }


def fingerprint(head: RecordHead) -> str:
    """A digest of what a reviewer sees: it changes with the record's label, image URL or prediction.

    A form holds it. The record is read again when the form comes back, and refused if the digest differs.
    """
    seen = (head.id_json, head.image_url, head.label, head.stamp)
    return sha256(repr(seen).encode(errors="surrogatepass")).hexdigest()[:16]


def is_review_of(review: Mapping[str, object] | None, by: str, at: datetime) -> bool:
    """Whether a stored review is the one that somebody wrote at a time."""
    return review is not None and (review.get("by"), review.get("at")) == (by, at)
