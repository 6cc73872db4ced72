"""The updates that write predictions and failures into records."""

from collections.abc import Mapping

from pymongo import UpdateOne

from mnist_ops.adapters.mongo.selection_query import usable_url
from mnist_ops.domain.records import HISTORY_LENGTH, Change, FieldNames, PredictionFailure


def update_of(change: Change, fields: FieldNames) -> UpdateOne:
    """The update that carries out a change if its record is still as snapshotted."""
    return UpdateOne(_unchanged(change, fields), _new_values(change, fields))


def _new_values(change: Change, fields: FieldNames) -> Mapping[str, object]:
    if isinstance(change.outcome, PredictionFailure):
        return {"$set": {fields.prediction_failure: change.outcome.document()}}
    update: dict[str, object] = {
        "$set": {fields.prediction: change.outcome.document()},
        "$unset": {fields.prediction_failure: ""},
    }
    if change.head.prediction is not None:
        update["$push"] = {
            fields.prediction_history: {
                "$each": [dict(change.head.prediction)],
                "$position": 0,
                "$slice": HISTORY_LENGTH,
            }
        }
    return update


def _unchanged(change: Change, fields: FieldNames) -> Mapping[str, object]:
    """The filter that a record passes only while it is as it was snapshotted."""
    head, stamp, failure = change.head, change.head.stamp, change.head.failure
    expected: dict[str, object] = {
        "_id": {"$eq": head.id},
        fields.label: exactly(head.label),
        f"{fields.prediction}.run": {"$eq": stamp.run},
        f"{fields.prediction}.generation": {"$eq": stamp.generation},
        f"{fields.prediction}.model.digest": {"$eq": stamp.digest},
        **same_url(head.image_url, fields),
    }
    if isinstance(change.outcome, PredictionFailure):
        expected[f"{fields.prediction_failure}.run"] = {"$eq": failure.run}
        expected[f"{fields.prediction_failure}.last_at"] = {"$eq": failure.last_at}
    return expected


def same_url(url: str | None, fields: FieldNames) -> Mapping[str, object]:
    """The condition that a record has an image URL; with None, that it has no usable one."""
    if url is None:
        return {"$expr": {"$eq": [usable_url(fields), None]}}
    return {fields.image_url: exactly(url)}


def exactly(value: object) -> Mapping[str, object]:
    """Equal to a value that is no array; a plain `$eq` also looks into arrays."""
    return {"$eq": value} if isinstance(value, list) else {"$eq": value, "$not": {"$type": "array"}}
