"""The aggregation pipeline that finds the records of a selection.

It translates `mnist_ops.domain.selection.takes`. Its first stage holds only what the index serves: the
embedded server uses no index for a filter with any other condition. MongoDB itself merges the stages.
"""

from collections.abc import Mapping, Sequence

from mnist_ops.adapters.mongo.bson_documents import LONGEST_URL
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import FieldNames
from mnist_ops.domain.selection import Reclassify, Selection

Condition = Mapping[str, object]

_SORT_KEY = "mnist_ops_order"  # a field within the pipeline, never in a record


def selection_pipeline(selection: Selection, fields: FieldNames) -> list[Condition]:
    """The stages that find the records of a selection, oldest first where it has a limit."""
    if selection.labelled:
        labelled = {"$or": [{fields.label: {"$ne": None}}, {fields.label: {"$type": "array"}}]}
        return [{"$match": labelled}, *_oldest(selection, fields)]
    in_window, dated = _created_in_window(selection, fields)
    indexed: dict[str, object] = {fields.label: None, **in_window}
    # A query looks into arrays; the rule takes a list of labels for a label. (An array that holds a null
    # has a first element, and asking for that one is cheapest.)
    others: list[Condition] = [{f"{fields.label}.0": {"$exists": False}}]
    if selection.reclassify is Reclassify.NEVER:
        indexed[f"{fields.prediction}.model.digest"] = None
    others += dated
    if selection.reclassify in (Reclassify.STALE, Reclassify.CHANGED):
        others.append(_reclassified(selection, fields))
    if selection.reclassify is Reclassify.FAILED:
        others.append({"$or": [_waiting(selection, fields), _asked_for_again(selection, fields)]})
    elif selection.reclassify is not Reclassify.ALL:
        others.append(_may_be_tried(selection, fields))
    return [{"$match": indexed}, {"$match": _all_of(others)}, *_oldest(selection, fields)]


def usable_url(fields: FieldNames) -> Condition:
    """The record's URL as an aggregation expression; null where it is no string, or too long."""
    path = f"${fields.image_url}"
    is_string = {"$eq": [_type_of(fields.image_url), "string"]}
    # Some servers evaluate from the inside out, so the length must be that of a string in any case.
    text = {"$cond": [is_string, path, ""]}
    usable = {"$and": [is_string, {"$lte": [{"$strLenBytes": text}, LONGEST_URL]}]}
    return {"$cond": [usable, path, None]}


def _created_in_window(selection: Selection, fields: FieldNames) -> tuple[Condition, list[Condition]]:
    """The range of creation times, which the index serves, and what else must hold."""
    created_at = fields.created_at
    before = {"$lt": selection.until} if selection.until else {}
    if selection.since is not None:
        is_date = {"$expr": {"$eq": [_type_of(created_at), "date"]}}
        return {created_at: {"$gte": selection.since, **before}}, [is_date]
    if selection.until is None:
        return {}, []
    # Also without a creation time, or with one that is no date.
    undated = {"$expr": {"$ne": [_type_of(created_at), "date"]}}
    return {}, [{"$or": [{created_at: before}, undated]}]


def _reclassified(selection: Selection, fields: FieldNames) -> Condition:
    """Not predicted yet, or with a prediction that `stale` or `changed` replaces."""
    digest = f"{fields.prediction}.model.digest"
    if selection.reclassify is Reclassify.STALE and selection.champion is not None:
        return {"$expr": {"$ne": [{"$ifNull": [f"${digest}", None]}, selection.champion]}}
    not_predicted = {digest: None}
    if selection.reclassify is Reclassify.CHANGED:
        predicted_url = {"$ifNull": [f"${fields.prediction}.image.url", None]}
        return {"$or": [not_predicted, {"$expr": {"$ne": [predicted_url, usable_url(fields)]}}]}
    return not_predicted


def _waiting(selection: Selection, fields: FieldNames) -> Condition:
    return {f"{fields.prediction}.model.digest": None, **_may_be_tried(selection, fields)}


def _asked_for_again(selection: Selection, fields: FieldNames) -> Condition:
    """With a failure of the present URL, permanent or due, for one of the selection's reasons."""
    failure = fields.prediction_failure
    due = f"{failure}.next_attempt_at"
    conditions: list[Condition] = [
        _attempted(fields),
        {"$eq": [{"$ifNull": [f"${failure}.image_url", None]}, usable_url(fields)]},
        {"$or": [{"$ne": [_type_of(due), "date"]}, {"$lte": [f"${due}", selection.at]}]},
    ]
    if selection.reasons:
        conditions.append({"$in": [f"${failure}.reason", sorted(selection.reasons)]})
    return {"$expr": {"$and": conditions}}


def _attempted(fields: FieldNames) -> Condition:
    attempts = f"{fields.prediction_failure}.attempts"
    counted = {"$in": [_type_of(attempts), ["int", "long"]]}
    return {"$and": [counted, {"$gte": [f"${attempts}", 1]}]}


def _may_be_tried(selection: Selection, fields: FieldNames) -> Condition:
    """Without a failure that is permanent, or not due yet."""
    failure = fields.prediction_failure
    due = f"{failure}.next_attempt_at"
    date_fixed = [
        {"$eq": [f"${failure}.reason", str(Reason.BAD_CREATED_AT)]},
        {"$eq": [_type_of(fields.created_at), "date"]},
    ]
    return {
        "$or": [
            # Most records have never failed, and this test is by far the cheapest.
            {failure: None},
            {"$expr": {"$not": [_attempted(fields)]}},
            {"$expr": {"$ne": [{"$ifNull": [f"${failure}.image_url", None]}, usable_url(fields)]}},
            {"$expr": {"$and": date_fixed}},
            {"$expr": {"$and": [{"$eq": [_type_of(due), "date"]}, {"$lte": [f"${due}", selection.at]}]}},
        ]
    }


def _oldest(selection: Selection, fields: FieldNames) -> list[Condition]:
    if selection.limit is None:
        return []
    is_date = {"$eq": [_type_of(fields.created_at), "date"]}
    # Numbers and the like sort after dates, but a record without a date must not wait for ever.
    sort_key = {_SORT_KEY: {"$cond": [is_date, f"${fields.created_at}", None]}}
    return [
        {"$set": sort_key},
        {"$sort": {_SORT_KEY: 1}},
        {"$limit": selection.limit},
        {"$unset": _SORT_KEY},
    ]


def _all_of(conditions: Sequence[Condition]) -> Condition:
    """Conditions as one; merged where they share no key, which costs the embedded server less than `$and`."""
    merged: dict[str, object] = {}
    clashing = []
    for condition in conditions:
        if condition.keys() & merged.keys():
            clashing.append(condition)
        else:
            merged |= condition
    return merged | {"$and": clashing} if clashing else merged


def _type_of(path: str) -> Condition:
    """The BSON type at a path; unlike a query's `$type`, it does not look into arrays."""
    return {"$type": f"${path}"}
