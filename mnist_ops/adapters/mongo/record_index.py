"""What pages ask of the records in MongoDB."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from bson.errors import BSONError
from pymongo import ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import ConnectionFailure, ExecutionTimeout, PyMongoError, WTimeoutError
from pymongo.read_concern import ReadConcern

from mnist_ops.adapters.mongo.bson_documents import CODEC, Document, head_of, id_json, id_of
from mnist_ops.adapters.mongo.errors import translate, translated
from mnist_ops.adapters.mongo.indexes import in_review, not_predicted, permanent
from mnist_ops.adapters.mongo.label_updates import clear_update, label_update, undo_update
from mnist_ops.adapters.mongo.ranges import BEFORE_ANY, Ranges, earlier
from mnist_ops.domain.cursors import ReviewCursor
from mnist_ops.domain.record_index import BoundedCount, LabelChange, is_review_of
from mnist_ops.domain.records import FieldNames, RecordHead

Condition = Mapping[str, object]

_SECONDS = Ranges(first=600.0, growth=4.0)
# Each age is half of the one before, down to an hour: one of these ranges holds few of the waiting records.
_AGES = [timedelta(hours=2**power) for power in range(14, -1, -1)]
_CONFIDENCES = Ranges(first=0.02, growth=1.1)


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
        untried, due = self._newest(self._untried(), at, limit), self._due(at, limit)
        count = untried.count + due.count
        return BoundedCount(min(count, limit), more=untried.more or due.more or count > limit)

    def oldest_waiting(self, at: datetime) -> datetime | None:
        created_at = self._fields.created_at
        edges = [BEFORE_ANY, *(at - age for age in _AGES), at]
        for since, until in pairwise(edges):
            dated = {**self._untried(), created_at: {"$gte": since, "$lt": until}}
            found = self._collection.find(dated).sort(created_at, 1).limit(1)
            for document in translated(list, found):
                return head_of(document, self._fields).created_at
        return None

    def permanently_failed(self, at: datetime, limit: int) -> BoundedCount:
        return self._newest({**not_predicted(self._fields), permanent(self._fields): True}, at, limit)

    def _untried(self) -> dict[str, object]:
        return {**not_predicted(self._fields), permanent(self._fields): None}

    def _newest(self, state: Condition, at: datetime, limit: int) -> BoundedCount:
        """Count the records in a state that were created before a time, or at no time; the newest first."""
        created_at = self._fields.created_at
        undated = self._count({**state, created_at: {"$eq": None}}, limit + 1)

        def count(start_s: float, stop_s: float) -> int:
            window = {"$gte": earlier(at, stop_s), "$lt": earlier(at, start_s)}
            return self._count({**state, created_at: window}, limit + 1)

        whole = (at - BEFORE_ANY).total_seconds()
        dated = _SECONDS.read(count, limit + 1 - undated, whole)
        return _bounded(undated + dated, limit)

    def _due(self, at: datetime, limit: int) -> BoundedCount:
        """Count the failed records whose next attempt is due; looks at `limit` that are to be retried."""
        due = f"{self._fields.prediction_failure}.next_attempt_at"
        stages: list[Condition] = [
            {"$match": {**not_predicted(self._fields), permanent(self._fields): {"$eq": False}}},
            {"$limit": limit + 1},
            {"$group": {"_id": {"$lte": [f"${due}", at]}, "records": {"$sum": 1}}},
        ]
        groups = translated(lambda: list(self._collection.aggregate(stages)))
        counts = {bool(group["_id"]): int(str(group["records"])) for group in groups}
        return BoundedCount(counts.get(True, 0), more=sum(counts.values()) > limit)

    def _count(self, query: Condition, limit: int) -> int:
        stages: list[Condition] = [{"$match": query}, {"$limit": limit}, {"$count": "records"}]
        counted = translated(lambda: list(self._collection.aggregate(stages)))
        return int(str(counted[0]["records"])) if counted else 0

    def in_review(self, limit: int) -> BoundedCount:
        def count(start: float, stop: float) -> int:
            return self._count(self._uncertain({"$gte": start, **_below(stop)}), limit + 1)

        return _bounded(_CONFIDENCES.read(count, limit + 1, 1.0), limit)

    def _uncertain(self, confidence: Condition) -> dict[str, object]:
        return {**in_review(self._fields), f"{self._fields.prediction}.confidence": confidence}

    def least_certain(self, after: ReviewCursor | None, limit: int) -> Sequence[RecordHead]:
        confidence = f"{self._fields.prediction}.confidence"
        heads: list[RecordHead] = []
        start = after.confidence if after else 0.0

        def add(range_: Condition, rest: Condition | None = None) -> int:
            # In two stages, since the embedded server uses an index only for a filter of nothing else.
            stages: list[Condition] = [
                {"$match": self._uncertain(range_)},
                {"$match": rest or {}},
                {"$sort": {confidence: 1, "_id": 1}},
                {"$limit": limit - len(heads)},
            ]
            page = translated(lambda: list(self._collection.aggregate(stages)))
            heads.extend(head_of(document, self._fields) for document in page)
            return len(page)

        def read(lower: float, upper: float) -> int:
            behind = "$gt" if after is not None and lower == 0 else "$gte"
            return add({behind: start + lower, **_below(start + upper)})

        if after is not None:
            add({"$eq": start}, {"_id": {"$gt": id_of(after.id_json)}})
        _CONFIDENCES.read(read, limit - len(heads), 1.0 - start)
        return heads

    def ids_of_url(self, url: str, limit: int) -> Sequence[str]:
        found = self._collection.find({self._fields.image_url: url}, {"_id": 1}).limit(limit)
        return [id_json(document["_id"]) for document in translated(list, found)]

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


def _bounded(count: int, limit: int) -> BoundedCount:
    return BoundedCount(min(count, limit), more=count > limit)


def _below(confidence: float) -> dict[str, object]:
    """Under a confidence; the last range holds the greatest one."""
    return {} if confidence > 1 - 1e-9 else {"$lt": confidence}
