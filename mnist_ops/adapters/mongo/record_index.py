"""What pages ask of the records in MongoDB."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from bson.errors import BSONError
from pymongo import ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import ConnectionFailure, ExecutionTimeout, PyMongoError, WTimeoutError
from pymongo.read_concern import ReadConcern

from mnist_ops.adapters.mongo.bson_documents import CODEC, Document, head_of, id_json, id_of
from mnist_ops.adapters.mongo.errors import translate, translated
from mnist_ops.adapters.mongo.label_updates import clear_update, label_update, undo_update
from mnist_ops.adapters.mongo.selection_query import selection_pipeline
from mnist_ops.domain.cursors import ReviewCursor
from mnist_ops.domain.record_index import BoundedCount, LabelChange, is_review_of
from mnist_ops.domain.records import FieldNames, RecordHead
from mnist_ops.domain.selection import Selection

Condition = Mapping[str, object]

_BEFORE_ANY = datetime.min.replace(tzinfo=UTC)


class MongoRecordIndex:
    """Bounded questions about a collection of records. Implements `RecordIndex`."""

    def __init__(self, collection: Collection[Document], fields: FieldNames) -> None:
        self._fields = fields
        self._collection = collection.with_options(
            codec_options=CODEC,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority"),
            read_concern=ReadConcern("majority"),
        )

    def waiting(self, at: datetime, limit: int) -> BoundedCount:
        return self._counted(selection_pipeline(Selection(at), self._fields), limit)

    def oldest_waiting(self, at: datetime) -> datetime | None:
        names = self._fields
        untried = {**self._unpredicted(), names.created_at: {"$lt": at}}
        stages: list[Condition] = [
            {"$match": untried},
            {"$match": {names.prediction_failure: None}},
            {"$sort": {names.created_at: 1}},
            {"$limit": 1},
        ]
        found = translated(lambda: list(self._collection.aggregate(stages)))
        return head_of(found[0], names).created_at if found else None

    def _unpredicted(self) -> dict[str, object]:
        return {self._fields.label: None, f"{self._fields.prediction}.model.digest": None}

    def _counted(self, stages: Sequence[Condition], limit: int) -> BoundedCount:
        """Count what a pipeline finds, up to a limit."""
        counting = [*stages, {"$limit": limit + 1}, {"$count": "records"}]
        counted = translated(lambda: list(self._collection.aggregate(counting)))
        count = int(str(counted[0]["records"])) if counted else 0
        return BoundedCount(min(count, limit), more=count > limit)

    def _in_review(self) -> dict[str, object]:
        return {f"{self._fields.prediction}.needs_review": True, self._fields.label: None}

    def in_review(self, limit: int) -> BoundedCount:
        return self._counted([{"$match": self._in_review()}], limit)

    def permanently_failed(self, limit: int) -> BoundedCount:
        failure = self._fields.prediction_failure
        stages: list[Condition] = [
            {"$match": {f"{failure}.last_at": {"$gt": _BEFORE_ANY}}},
            {"$sort": {f"{failure}.last_at": -1}},
            {"$limit": limit},
            {"$match": {f"{failure}.next_attempt_at": None}},
        ]
        return self._counted(stages, limit)

    def least_certain(self, after: ReviewCursor | None, limit: int) -> Sequence[RecordHead]:
        confidence = f"{self._fields.prediction}.confidence"
        heads: list[RecordHead] = []
        for behind in _behind(confidence, after):
            found = self._collection.find({**self._in_review(), **behind})
            page = found.sort([(confidence, 1), ("_id", 1)]).limit(limit - len(heads))
            heads += [head_of(document, self._fields) for document in translated(list, page)]
            if len(heads) == limit:
                break
        return heads

    def ids_of_url(self, url: str, limit: int) -> Sequence[str]:
        found = self._collection.find({self._fields.image_url: url}, {"_id": 1}).limit(limit)
        return [id_json(document["_id"]) for document in translated(list, found)]

    def created_in(self, since: datetime, until: datetime, limit: int) -> BoundedCount:
        window = {**self._unpredicted(), self._fields.created_at: {"$gte": since, "$lt": until}}
        return self._counted([{"$match": window}], limit)

    # What reviewers write

    def set_label(self, change: LabelChange) -> bool:
        query, stages = label_update(change, self._fields)

        def is_written(head: RecordHead) -> bool:
            return head.label == change.label and is_review_of(head.label_review, change.by, change.at)

        return self._written(query, stages, change.head.id, is_written)

    def undo_label(self, id_json: str, by: str, at: datetime) -> bool:
        query, stages = undo_update(id_json, by, at, self._fields)
        return self._written(query, stages, id_of(id_json), lambda head: head.label_review is None)

    def clear_failure(self, head: RecordHead) -> bool:
        query, update = clear_update(head, self._fields)
        return self._written(query, update, head.id, lambda now: now.failure != head.failure)

    def _written(
        self,
        query: Condition,
        update: Mapping[str, object] | Sequence[Condition],
        record_id: object,
        is_written: Callable[[RecordHead], bool],
    ) -> bool:
        """Make one update; whether the record was as expected. Where the reply is lost, read it back.

        Raises:
            Transient: the reply was lost, and the record does not show the update.
        """
        try:
            return self._collection.update_one(query, update).matched_count == 1
        except (ConnectionFailure, WTimeoutError, ExecutionTimeout) as error:
            found = translated(self._collection.find_one, {"_id": {"$eq": record_id}})
            if found is not None and is_written(head_of(found, self._fields)):
                return True
            raise translate(error) from error
        except (PyMongoError, BSONError) as error:
            raise translate(error) from error


def _behind(confidence: str, after: ReviewCursor | None) -> list[Condition]:
    """The ranges of the index that are behind a position, in order."""
    if after is None:
        return [{confidence: {"$gte": 0}}]
    same = {confidence: after.confidence, "_id": {"$gt": id_of(after.id_json)}}
    return [cast("Condition", same), {confidence: {"$gt": after.confidence}}]
