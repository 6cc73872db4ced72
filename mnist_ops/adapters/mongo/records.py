"""The user's records in MongoDB."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from typing import cast

import pymongo
from bson.errors import BSONError
from pymongo import ReadPreference, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, ConnectionFailure, ExecutionTimeout, PyMongoError, WTimeoutError
from pymongo.read_concern import ReadConcern

from mnist_ops.adapters.mongo.bson_documents import (
    CODEC,
    Document,
    decode,
    given_id,
    head_of,
    id_json,
    json_values,
)
from mnist_ops.adapters.mongo.errors import translate, translated
from mnist_ops.adapters.mongo.indexes import not_predicted, permanent, record_indexes
from mnist_ops.adapters.mongo.record_updates import update_of
from mnist_ops.adapters.mongo.selection_query import selection_pipeline
from mnist_ops.domain.errors import OutcomeUnknown
from mnist_ops.domain.records import Change, EmptyCollection, FieldNames, RecordHead, WriteReport
from mnist_ops.domain.selection import Selection

_BATCH = 5_000
# The collections of the pipeline and of the server.
_NOT_RECORDS = ("mnist_ops_", "system.")
# These codes are permanent for this write of this document: BadValue, FailedToParse, TypeMismatch,
# PathNotViable, ConflictingUpdateOperators, field names that the server does not take, DuplicateKey,
# DocumentValidationFailure, documents that would become too large.
_PERMANENT_WRITE_CODES = frozenset({2, 9, 14, 28, 40, 52, 56, 57, 121, 10334, 11000, 16837, 17280, 17419})
# The embedded server needs quadratic time for an `$in` list; MongoDB gains little from longer ones.
_IDS_PER_QUERY = 100


class MongoRecords:
    """A collection of records. Implements `RecordStore`."""

    def __init__(self, collection: Collection[Document], fields: FieldNames) -> None:
        self._fields = fields
        self._collection = collection.with_options(
            codec_options=CODEC,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority"),
            read_concern=ReadConcern("majority"),
        )

    def insert(self, *documents: Mapping[str, object]) -> None:
        """Add records, as a website would."""
        translated(self._collection.insert_many, [dict(document) for document in documents])

    def documents(self) -> list[Document]:
        """Return all records; for small collections."""
        return translated(lambda: list(self._collection.find()))

    def ensure_indexes(self) -> Sequence[str]:
        """Create the indexes of selections and pages, where they are missing; return their names.

        Failures that an earlier version wrote get their `permanent`, by which pages find them.
        """
        indexes = record_indexes(self._fields)
        for name in self.missing_indexes():
            translated(self._collection.create_indexes, [indexes[name].model(name)])
        next_attempt_at = f"{self._fields.prediction_failure}.next_attempt_at"
        path = permanent(self._fields)
        for kind, is_permanent in (("null", True), ("date", False)):
            unsaid = {**not_predicted(self._fields), path: None, next_attempt_at: {"$type": kind}}
            translated(self._collection.update_many, unsaid, {"$set": {path: is_permanent}})
        return list(indexes)

    def missing_indexes(self) -> Sequence[str]:
        """The names of indexes that `ensure_indexes` would create; an equal one of another name will do."""
        existing = translated(self._collection.index_information)
        # Directions are compared as they are: 1, 1.0, or a word such as "2dsphere".
        known = [
            (tuple(tuple(key) for key in index["key"]), index.get("partialFilterExpression") or {})
            for index in existing.values()
            if not index.get("sparse")
        ]
        indexes = record_indexes(self._fields)
        return [name for name, index in indexes.items() if (index.keys, index.only) not in known]

    def empty_collection(self) -> EmptyCollection | None:
        if translated(self._collection.find_one, {}, {"_id": 1}) is not None:
            return None
        database, name = self._collection.database, self._collection.name
        names = set(translated(database.list_collection_names))
        others = [each for each in sorted(names - {name}) if not each.startswith(_NOT_RECORDS)]
        # Beside a collection that exists, a name that is not alike means nothing.
        alike = get_close_matches(name, others, 1, cutoff=0.6 if name in names else 0.0)
        nearest = f"{database.name}.{alike[0]}" if alike else self._namesake()
        return EmptyCollection(self._collection.full_name, name in names, nearest)

    def _namesake(self) -> str | None:
        """A collection of the same name in another database, as `database.collection`."""
        database, name = self._collection.database, self._collection.name
        for other in translated(database.client.list_database_names):
            if other != database.name and name in translated(database.client[other].list_collection_names):
                return f"{other}.{name}"
        return None

    def count(self, selection: Selection, limit_s: float | None = None) -> int:
        pipeline = [*selection_pipeline(selection, self._fields), {"$count": "records"}]
        # The server ends its work too.
        with pymongo.timeout(limit_s) if limit_s is not None else nullcontext():
            counted = translated(lambda: list(self._collection.aggregate(pipeline, allowDiskUse=True)))
        return int(str(counted[0]["records"])) if counted else 0

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        pipeline = selection_pipeline(selection, self._fields)
        cursor = translated(
            lambda: self._collection.aggregate_raw_batches(pipeline, batchSize=_BATCH, allowDiskUse=True)
        )
        with cursor:
            while True:
                try:
                    batch = next(cursor)
                except StopIteration:
                    return
                except (PyMongoError, BSONError) as error:
                    raise translate(error) from error
                yield cast("bytes", batch)  # a raw cursor yields bytes, whatever its annotation says

    def head(self, document: bytes) -> RecordHead:
        return head_of(decode(document), self._fields)

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write changes in one unordered bulk, each only if its record is still as snapshotted."""
        if not changes:
            return WriteReport(matched=0)
        updates = self.updates(changes)
        try:
            result = self._collection.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            return _partial(error)
        except (ConnectionFailure, WTimeoutError, ExecutionTimeout) as error:
            lost = f"the reply to a bulk of {len(updates)} writes was lost: {translate(error)}"
            raise OutcomeUnknown(lost) from error
        except (PyMongoError, BSONError) as error:
            raise translate(error) from error
        return WriteReport(matched=result.matched_count)

    def updates(self, changes: Sequence[Change]) -> list[UpdateOne]:
        """The updates that `apply` sends."""
        return [update_of(change, self._fields) for change in changes]

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        names = self._fields
        projection = [names.image_url, names.created_at, names.label]
        projection += [names.prediction, names.prediction_failure, names.label_review]
        heads: dict[str, RecordHead] = {}
        for start in range(0, len(ids), _IDS_PER_QUERY):
            query = {"_id": {"$in": [given_id(text) for text in ids[start : start + _IDS_PER_QUERY]]}}
            for document in translated(lambda query: list(self._collection.find(query, projection)), query):
                head = head_of(document, names)
                heads[head.id_json] = head
        return heads

    def whole(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        query = {"_id": {"$in": [given_id(text) for text in ids]}}
        found = translated(lambda: list(self._collection.find(query)))
        return {id_json(document["_id"]): json_values(document) for document in found}


def _partial(error: BulkWriteError) -> WriteReport:
    """Report a bulk of which some writes failed.

    Raises:
        OutcomeUnknown: a write failed that may succeed later, or the bulk was not acknowledged.
    """
    details = error.details or {}
    if details.get("writeConcernErrors"):
        raise OutcomeUnknown(f"a bulk was not acknowledged: {details['writeConcernErrors']}") from error
    failures = details["writeErrors"]
    transient = [failure for failure in failures if failure["code"] not in _PERMANENT_WRITE_CODES]
    if transient:
        raise OutcomeUnknown(f"{len(transient)} writes of a bulk failed: {transient[0]['errmsg']}") from error
    refused = {failure["index"]: f"code {failure['code']}: {failure['errmsg']}" for failure in failures}
    return WriteReport(matched=details["nMatched"], refused=refused)
