"""The updates that write a reviewer's label into a record, take it back, and clear a failure.

Each is one update, whose filter a record passes only while it is as the reviewer saw it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from mnist_ops.adapters.mongo.bson_documents import id_of
from mnist_ops.adapters.mongo.record_updates import exactly, same_url
from mnist_ops.domain.record_index import LabelChange
from mnist_ops.domain.records import FieldNames, RecordHead

Filter = Mapping[str, object]
Stages = Sequence[Mapping[str, object]]


def label_update(change: LabelChange, fields: FieldNames) -> tuple[Filter, Stages]:
    """Write the label, and beside it the review with the former label."""
    head, stamp, prediction = change.head, change.head.stamp, fields.prediction
    unchanged = {
        "_id": {"$eq": head.id},
        fields.label: exactly(head.label),
        f"{prediction}.run": {"$eq": stamp.run},
        f"{prediction}.generation": {"$eq": stamp.generation},
        f"{prediction}.model.digest": {"$eq": stamp.digest},
        **same_url(head.image_url, fields),
    }
    former = {
        "was": {"$ifNull": [f"${fields.label}", None]},
        "was_set": {"$ne": [{"$type": f"${fields.label}"}, "missing"]},
    }
    review = {name: {"$literal": value} for name, value in change.document().items()} | former
    # In two stages, so that the review sees the former label.
    return unchanged, [
        {"$unset": fields.label_review},
        {"$set": {fields.label_review: review}},
        {"$set": {fields.label: {"$literal": change.label}}},
    ]


def undo_update(id_json: str, by: str, at: datetime, fields: FieldNames) -> tuple[Filter, Stages]:
    """Restore the label that a review replaced, and remove the review."""
    review = fields.label_review
    written = {
        "_id": {"$eq": id_of(id_json)},
        f"{review}.by": {"$eq": by},
        f"{review}.at": {"$eq": at},
        "$expr": {"$eq": [f"${fields.label}", f"${review}.label"]},
    }
    was = {"$cond": [f"${review}.was_set", f"${review}.was", "$$REMOVE"]}
    return written, [{"$set": {fields.label: was}}, {"$unset": review}]


def clear_update(head: RecordHead, fields: FieldNames) -> tuple[Filter, Mapping[str, object]]:
    """Remove the failure of a record."""
    failure, stamp = fields.prediction_failure, head.failure
    unchanged = {
        "_id": {"$eq": head.id},
        f"{failure}.run": {"$eq": stamp.run},
        f"{failure}.last_at": {"$eq": stamp.last_at},
        f"{failure}.image_url": {"$eq": stamp.image_url},
        f"{failure}.attempts": {"$gte": 1},
        **same_url(head.image_url, fields),
    }
    return unchanged, {"$unset": {failure: ""}}
