"""The indexes of the records: those of selections, and those of the questions that pages ask."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pymongo import IndexModel

from mnist_ops.domain.records import FieldNames

REVIEW = "mnist_ops_review"
URL = "mnist_ops_url"
STATE = "mnist_ops_state"


@dataclass(frozen=True, slots=True)
class Index:
    """An index.

    Attributes:
        keys: its fields with their directions, in order.
        only: it has an entry for the records that this filter matches; for all of them if it is empty.
    """

    keys: tuple[tuple[str, int], ...]
    only: Mapping[str, object] = field(default_factory=dict)

    def model(self, name: str) -> IndexModel:
        """What PyMongo creates of it."""
        only = {"partialFilterExpression": self.only} if self.only else {}
        return IndexModel(self.keys, name=name, **only)


def record_indexes(fields: FieldNames) -> dict[str, Index]:
    """The indexes that the records need, by name."""
    label, created_at, digest = fields.label, fields.created_at, f"{fields.prediction}.model.digest"
    confidence = f"{fields.prediction}.confidence"
    return {
        "mnist_ops_selection": Index(((label, 1), (digest, 1), (created_at, 1))),
        "mnist_ops_window": Index(((label, 1), (created_at, 1))),
        REVIEW: Index(((confidence, 1), ("_id", 1)), in_review(fields)),
        URL: Index(((fields.image_url, 1),)),
        # The label and the prediction are in the keys too: the embedded server needs them there.
        STATE: Index(
            ((label, 1), (digest, 1), (permanent(fields), 1), (created_at, 1)), not_predicted(fields)
        ),
    }


def in_review(fields: FieldNames) -> dict[str, object]:
    """The records whose prediction is marked for review and which have no human label."""
    return {f"{fields.prediction}.needs_review": True, fields.label: None}


def not_predicted(fields: FieldNames) -> dict[str, object]:
    """The records without a human label and without a prediction."""
    return {fields.label: None, f"{fields.prediction}.model.digest": None}


def permanent(fields: FieldNames) -> str:
    """The path of whether a failure is permanent: null without a failure, false with one to be retried."""
    return f"{fields.prediction_failure}.permanent"
