"""The user's records in MongoDB."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ParamSpec, TypeVar, cast

from bson.errors import BSONError
from pymongo import ReadPreference, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    CursorNotFound,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from mnist_ops.adapters.mongo.bson_documents import (
    CODEC,
    LONGEST_URL,
    Document,
    decode,
    head_of,
    id_of,
    update_of,
)
from mnist_ops.domain.errors import OutcomeUnknown, Permanent, Transient
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import (
    HISTORY_LENGTH,
    Change,
    FieldNames,
    PredictionFailure,
    RecordHead,
    WriteReport,
)
from mnist_ops.domain.selection import Reclassify, Selection

P = ParamSpec("P")
T = TypeVar("T")

_BATCH = 5_000
_ORDER = "mnist_ops_order"  # a field within a pipeline, never in a record
# WriteConflict, ReadConcernMajorityNotAvailableYet.
_RETRYABLE_CODES = frozenset({112, 134})
# What the server will always say to this write of this document: BadValue, FailedToParse, TypeMismatch,
# PathNotViable, ConflictingUpdateOperators, field names it does not take, DuplicateKey,
# DocumentValidationFailure, documents that would become too large.
_REFUSALS = frozenset({2, 9, 14, 28, 40, 52, 56, 57, 121, 10334, 11000, 16837, 17280, 17419})
_RETRYABLE_LABELS = ("RetryableWriteError", "TransientTransactionError")
# The embedded server looks an `$in` list up in quadratic time; a real one gains little beyond this.
IDS_PER_LOOKUP = 100


class MongoRecords:
    """A collection of records.

    Args:
        collection: where they are.
        fields: what their fields are called.
    """

    def __init__(self, collection: Collection[Document], fields: FieldNames) -> None:
        self._fields = fields
        prediction, failure = fields.prediction, fields.prediction_failure
        self._stamp_paths = f"{prediction}.run", f"{prediction}.generation", f"{prediction}.model.digest"
        self._failure_paths = f"{failure}.run", f"{failure}.last_at"
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
        """All records; for small collections."""
        return translated(lambda: list(self._collection.find()))

    def ensure_indexes(self) -> Sequence[str]:
        """Make the index that selections use, where it is missing; returns the names of all of them."""
        indexes = self._indexes()
        for name in self.missing_indexes():
            translated(self._collection.create_index, indexes[name], name=name)
        return list(indexes)

    def missing_indexes(self) -> Sequence[str]:
        """The names of indexes that `ensure_indexes` would make."""
        existing = translated(self._collection.index_information)
        # Orders are compared as they are: 1, 1.0, or a word such as "2dsphere".
        shapes = [tuple(tuple(key) for key in index["key"]) for index in existing.values()]
        return [name for name, keys in self._indexes().items() if tuple(keys) not in shapes]

    def _indexes(self) -> Mapping[str, list[tuple[str, int]]]:
        fields = self._fields
        # Equality on label and prediction, then a range of creation times: every selection is a scan of it.
        keys = [(fields.label, 1), (f"{fields.prediction}.model.digest", 1), (fields.created_at, 1)]
        return {"mnist_ops_selection": keys}

    def count(self, selection: Selection) -> int:
        """How many records a selection takes now."""
        pipeline = [*self.pipeline(selection), {"$count": "records"}]
        counted = translated(lambda: list(self._collection.aggregate(pipeline, allowDiskUse=True)))
        return int(str(counted[0]["records"])) if counted else 0

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        """The selected records as stored, in batches of concatenated BSON documents."""
        pipeline = self.pipeline(selection)
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
                yield cast("bytes", batch)  # what a raw cursor gives, whatever its annotation says

    def head(self, document: bytes) -> RecordHead:
        """Read the fields of one BSON document that the pipeline looks at."""
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
            raise OutcomeUnknown(f"the reply to a bulk of {len(updates)} writes was lost: {error}") from error
        except (PyMongoError, BSONError) as error:
            raise translate(error) from error
        return WriteReport(matched=result.matched_count)

    def updates(self, changes: Sequence[Change]) -> list[UpdateOne]:
        """What `apply` sends."""
        return [
            UpdateOne(self._unchanged(change), update_of(change, self._fields, HISTORY_LENGTH))
            for change in changes
        ]

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        """The current heads of records by `id_json`; records that are gone are left out."""
        fields = self._fields
        paths = (
            fields.image_url,
            fields.created_at,
            fields.label,
            fields.prediction,
            fields.prediction_failure,
        )
        projection = dict.fromkeys(paths, 1)
        heads: dict[str, RecordHead] = {}
        for start in range(0, len(ids), IDS_PER_LOOKUP):
            wanted = {"_id": {"$in": [id_of(text) for text in ids[start : start + IDS_PER_LOOKUP]]}}
            for document in translated(lambda query: list(self._collection.find(query, projection)), wanted):
                head = head_of(document, fields)
                heads[head.id_json] = head
        return heads

    def pipeline(self, selection: Selection) -> list[Mapping[str, object]]:
        """Translate `mnist_ops.domain.selection.takes` into an aggregation.

        Its first stage holds only what the index serves, since the embedded server does not use an
        index for a filter with anything else in it; a real one merges the stages.
        """
        if selection.labelled:
            label = self._fields.label
            labelled = {"$or": [{label: {"$ne": None}}, {label: {"$type": "array"}}]}
            return [{"$match": labelled}, *self._oldest(selection)]
        fields = self._fields
        served: dict[str, object] = {fields.label: None}
        # A query looks into arrays; the rule takes a list of labels for a label. (An array that holds a null
        # has a first element, and to ask for that one is cheapest.)
        rest: list[Mapping[str, object]] = [{f"{fields.label}.0": {"$exists": False}}]
        if selection.reclassify is Reclassify.NEVER:
            served[f"{fields.prediction}.model.digest"] = None
        if selection.since is None:
            rest += self._until(selection)
        else:
            window = {fields.created_at: {"$gte": selection.since, **self._before(selection)}}
            if selection.reclassify is Reclassify.NEVER:
                served |= window
            else:
                rest.append(window)
            rest.append({"$expr": {"$eq": [_type_of(fields.created_at), "date"]}})
        if selection.reclassify in (Reclassify.STALE, Reclassify.CHANGED):
            rest.append(self._wanted(selection))
        if selection.reclassify is not Reclassify.ALL:
            rest.append(self._no_standing_failure(selection))
        return [{"$match": served}, {"$match": _conjunction(rest)}, *self._oldest(selection)]

    def _oldest(self, selection: Selection) -> list[Mapping[str, object]]:
        if selection.limit is None:
            return []
        created_at = self._fields.created_at
        dated = {"$eq": [_type_of(created_at), "date"]}
        # Numbers and the like sort after dates, but a record without a date must not wait for ever.
        order = {_ORDER: {"$cond": [dated, f"${created_at}", None]}}
        return [{"$set": order}, {"$sort": {_ORDER: 1}}, {"$limit": selection.limit}, {"$unset": _ORDER}]

    def _until(self, selection: Selection) -> list[Mapping[str, object]]:
        """Created before `until`, or without a creation time, or with one that is no date."""
        if selection.until is None:
            return []
        undated = {"$expr": {"$ne": [_type_of(self._fields.created_at), "date"]}}
        return [{"$or": [{self._fields.created_at: self._before(selection)}, undated]}]

    @staticmethod
    def _before(selection: Selection) -> Mapping[str, object]:
        return {"$lt": selection.until} if selection.until else {}

    def _wanted(self, selection: Selection) -> Mapping[str, object]:
        digest = f"{self._fields.prediction}.model.digest"
        if selection.reclassify is Reclassify.STALE and selection.champion is not None:
            return {"$expr": {"$ne": [{"$ifNull": [f"${digest}", None]}, selection.champion]}}
        waiting = {digest: None}
        if selection.reclassify is Reclassify.CHANGED:
            former = {"$ifNull": [f"${self._fields.prediction}.image.url", None]}
            return {"$or": [waiting, {"$expr": {"$ne": [former, self._url()]}}]}
        return waiting

    def _no_standing_failure(self, selection: Selection) -> Mapping[str, object]:
        failure, created_at = self._fields.prediction_failure, self._fields.created_at
        due = f"{failure}.next_attempt_at"
        counted = {"$in": [_type_of(f"{failure}.attempts"), ["int", "long"]]}
        attempted = {"$and": [counted, {"$gte": [f"${failure}.attempts", 1]}]}
        mended = [
            {"$eq": [f"${failure}.reason", str(Reason.BAD_CREATED_AT)]},
            {"$eq": [_type_of(created_at), "date"]},
        ]
        return {
            "$or": [
                # Most records have never failed, and of the rest this is by far the cheapest to see.
                {failure: None},
                {"$expr": {"$not": [attempted]}},
                {"$expr": {"$ne": [{"$ifNull": [f"${failure}.image_url", None]}, self._url()]}},
                {"$expr": {"$and": mended}},
                {"$expr": {"$and": [{"$eq": [_type_of(due), "date"]}, {"$lte": [f"${due}", selection.at]}]}},
            ]
        }

    def _url(self) -> Mapping[str, object]:
        """The record's URL as an aggregation expression; null where it is no string, or too long."""
        path = f"${self._fields.image_url}"
        # Evaluated from the inside out on some servers, so the length is of a string in any case.
        text = {"$cond": [{"$eq": [_type_of(self._fields.image_url), "string"]}, path, ""]}
        usable = {
            "$and": [
                {"$eq": [_type_of(self._fields.image_url), "string"]},
                {"$lte": [{"$strLenBytes": text}, LONGEST_URL]},
            ]
        }
        return {"$cond": [usable, path, None]}

    def _unchanged(self, change: Change) -> Mapping[str, object]:
        """The filter that a record passes only while it is as it was snapshotted."""
        fields, head = self._fields, change.head
        stamp, failure = head.stamp, head.failure
        run, generation, digest = self._stamp_paths
        expected: dict[str, object] = {
            "_id": {"$eq": head.id},
            fields.label: _exactly(head.label),
            run: {"$eq": stamp.run},
            generation: {"$eq": stamp.generation},
            digest: {"$eq": stamp.digest},
        }
        if head.image_url is None:
            expected["$expr"] = {"$eq": [self._url(), None]}
        else:
            expected[fields.image_url] = _exactly(head.image_url)
        if isinstance(change.outcome, PredictionFailure):
            run, last_at = self._failure_paths
            expected[run] = {"$eq": failure.run}
            expected[last_at] = {"$eq": failure.last_at}
        return expected


def _conjunction(conditions: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    """Conditions as one: side by side, which costs the embedded server less, where they share no key."""
    together: dict[str, object] = {}
    clashing = []
    for condition in conditions:
        if condition.keys() & together.keys():
            clashing.append(condition)
        else:
            together |= condition
    return together | {"$and": clashing} if clashing else together


def _partial(error: BulkWriteError) -> WriteReport:
    details = error.details or {}
    if details.get("writeConcernErrors"):
        raise OutcomeUnknown(f"a bulk was not acknowledged: {details['writeConcernErrors']}") from error
    failures = details["writeErrors"]
    passing = [failure for failure in failures if failure["code"] not in _REFUSALS]
    if passing:
        raise OutcomeUnknown(f"{len(passing)} writes of a bulk failed: {passing[0]['errmsg']}") from error
    refused = {failure["index"]: f"code {failure['code']}: {failure['errmsg']}" for failure in failures}
    return WriteReport(matched=details["nMatched"], refused=refused)


def _type_of(path: str) -> Mapping[str, object]:
    """The BSON type at a path; unlike a query's `$type`, it tells an array from its elements."""
    return {"$type": f"${path}"}


def _exactly(value: object) -> Mapping[str, object]:
    """Equal to a value that is no array; a plain `$eq` also looks into arrays."""
    return {"$eq": value} if isinstance(value, list) else {"$eq": value, "$not": {"$type": "array"}}


def translate(error: PyMongoError | BSONError) -> Transient | Permanent:
    """PyMongo's error as one of ours: what may work later is transient."""
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError | CursorNotFound):
        return Transient(f"MongoDB did not answer: {error}")
    if isinstance(error, OperationFailure) and (
        error.code in _RETRYABLE_CODES or any(map(error.has_error_label, _RETRYABLE_LABELS))
    ):
        return Transient(f"MongoDB asks to retry: {error}")
    return Permanent(f"MongoDB refused: {error}")


def translated(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call PyMongo and translate its errors; a duplicate key is the caller's to answer."""
    try:
        return call(*args, **kwargs)
    except DuplicateKeyError:
        raise
    except (PyMongoError, BSONError) as error:
        raise translate(error) from error
