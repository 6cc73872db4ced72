"""Leases and answers of reviewers in MongoDB: one document a record, whose unique `_id` decides."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from mnist_ops.adapters.mongo.bson_documents import Document
from mnist_ops.adapters.mongo.collections import majority_collection, upserted
from mnist_ops.adapters.mongo.errors import translated
from mnist_ops.domain.reviewing import LEASE, GivenAnswer

REVIEWS = "mnist_ops_reviews"


class MongoReviews:
    """Leases and answers. Implements `ReviewStore`.

    A document is {_id: the record's id as canonical Extended JSON, holder, until, skipped_by: [reviewers],
    answered: {by, at, audit}}. A lease that has ended has an `until` in the past.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._reviews = majority_collection(database, REVIEWS)
        self._indexed = False

    def _ensure_indexes(self) -> None:
        if not self._indexed:
            answers = [("answered.by", 1), ("answered.at", -1)]
            translated(self._reviews.create_index, answers, name="answers", sparse=True)
            skips = [("skipped_by", 1), ("until", 1)]
            translated(self._reviews.create_index, skips, name="skips", sparse=True)
            self._indexed = True

    def lease(self, ids: Sequence[str], holder: str, now: datetime, limit: int) -> Sequence[str]:
        self._ensure_indexes()
        elsewhere = {"_id": {"$in": list(ids)}, "holder": {"$ne": holder}, "until": {"$gt": now}}
        held = {review["_id"] for review in translated(lambda: list(self._reviews.find(elsewhere)))}
        taken: list[str] = []
        for record in ids:
            if len(taken) == limit:
                break
            if record not in held and self._take(record, holder, now):
                taken.append(record)
        return taken

    def _take(self, record: str, holder: str, now: datetime) -> bool:
        free = {"_id": record, "$or": [{"holder": holder}, {"until": {"$lte": now}}]}
        lease = {"$set": {"holder": holder, "until": now + LEASE}}
        try:
            translated(self._reviews.update_one, free, lease, upsert=True)
        except DuplicateKeyError:
            return False  # another reviewer holds it
        return True

    def release(self, record: str, holder: str, now: datetime) -> None:
        translated(self._reviews.update_one, {"_id": record, "holder": holder}, {"$set": {"until": now}})

    def skip(self, record: str, holder: str, now: datetime) -> None:
        skip = {"$set": {"until": now}, "$addToSet": {"skipped_by": holder}}
        translated(self._reviews.update_one, {"_id": record, "holder": holder}, skip)

    def skipped(self, holder: str, limit: int) -> Sequence[str]:
        query = {"skipped_by": holder}
        found = translated(lambda: list(self._reviews.find(query).sort("until", 1).limit(limit)))
        return [str(review["_id"]) for review in found]

    def forget_skip(self, record: str, holder: str) -> None:
        translated(self._reviews.update_one, {"_id": record}, {"$pull": {"skipped_by": holder}})

    def add_answer(self, answer: GivenAnswer) -> None:
        answered = {"by": answer.by, "at": answer.at, "audit": answer.audit}
        values = {"holder": answer.by, "until": answer.at, "answered": answered}
        update = {"$set": values, "$unset": {"skipped_by": ""}}
        upserted(self._reviews.update_one, {"_id": answer.record}, update)

    def answers(self, by: str, since: datetime, limit: int) -> Sequence[GivenAnswer]:
        query = {"answered.by": by, "answered.at": {"$gte": since}}
        found = translated(lambda: list(self._reviews.find(query).sort("answered.at", -1).limit(limit)))
        return [_answer(review) for review in found]

    def remove_answer(self, answer: GivenAnswer) -> bool:
        present = {"_id": answer.record, "answered.by": answer.by, "answered.at": answer.at}
        result = translated(self._reviews.update_one, present, {"$unset": {"answered": ""}})
        return result.matched_count == 1


def _answer(review: Document) -> GivenAnswer:
    answered = cast("Document", review["answered"])
    return GivenAnswer(
        record=str(review["_id"]),
        by=str(answered["by"]),
        at=cast("datetime", answered["at"]),
        audit=cast("str | None", answered["audit"]),
    )
