"""The change stream of the records, and the queries that replace it where there is none."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from bson import json_util
from bson.errors import BSONError
from pymongo.asynchronous.change_stream import AsyncCollectionChangeStream
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from mnist_ops.adapters.mongo.bson_documents import CODEC, Document, value_at
from mnist_ops.adapters.mongo.connection import async_mongo_client
from mnist_ops.adapters.mongo.errors import translate
from mnist_ops.adapters.mongo.indexes import not_predicted
from mnist_ops.adapters.mongo.registry import LEDGERS, RUNS
from mnist_ops.adapters.mongo.selection_query import selection_pipeline
from mnist_ops.domain.arrivals import (
    HistoryLost,
    NoChangeStream,
    WaitingRecords,
    WokenRuns,
    selection_of_arrivals,
)
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import MnistOpsError, Transient
from mnist_ops.domain.keys import run_key
from mnist_ops.domain.records import FieldNames

WATCHES = "mnist_ops_watches"

# AuthenticationFailed, and the same from MongoDB Atlas: no word about the stream.
_WRONG_LOGIN_CODES = frozenset({18, 8000})
# How many waiting records are counted at most, where there is no change stream.
_COUNTED = 10_000
# A server that does not answer for this long is lost, whatever the connection says.
_ANSWER_S = 30.0
# A server that returns nothing before the time that it may wait must not be asked without end.
_BREATH_S = 0.02
_ASSET_TRIGGERED = "asset_triggered__"  # how Airflow names the runs that events have woken


def arriving(fields: FieldNames) -> list[Mapping[str, object]]:
    """The stages that let changes pass after which a record may wait for a label.

    These are inserts, replaced documents, updates and removals of the image URL, and removals of a label,
    a prediction or a failure. What the pipeline itself writes does not pass: else each run would wake the
    next. Of a change only its kind is sent, not the document.
    """
    path = fields.image_url.split(".")
    url = [".".join(path[: length + 1]) for length in range(len(path))]
    updated = {
        "$map": {
            "input": {"$objectToArray": {"$ifNull": ["$updateDescription.updatedFields", {}]}},
            "in": "$$this.k",
        }
    }
    removed = {"$ifNull": ["$updateDescription.removedFields", []]}
    # A publish removes the failure too, and writes a prediction.
    cleared = [*url, fields.label, fields.prediction, fields.prediction_failure]
    edited = {
        "$or": [
            _shares(updated, url),
            {"$and": [_shares(removed, cleared), {"$not": [_shares(updated, [fields.prediction])]}]},
        ]
    }
    update = {"operationType": "update", "$expr": edited}
    return [
        {"$match": {"$or": [{"operationType": {"$in": ["insert", "replace"]}}, update]}},
        {"$project": {"operationType": 1}},
    ]


def _shares(names: Mapping[str, object], others: Sequence[str]) -> Mapping[str, object]:
    return {"$gt": [{"$size": {"$setIntersection": [names, list(others)]}}, 0]}


@asynccontextmanager
async def connected_changes(
    where: Connection, place: tuple[str, str], fields: FieldNames, wait_s: float
) -> AsyncIterator["MongoChanges"]:
    """Connect to the records, to watch them.

    Args:
        where: the connection to MongoDB.
        place: database and collection.
        fields: the names of the records' fields.
        wait_s: how long to wait for one change, in seconds.

    Raises:
        UsageError: PyMongo refuses the connection.
    """
    database, collection = place
    async with async_mongo_client(where) as client:
        yield MongoChanges(client[database], collection, fields, wait_s)


@dataclass(frozen=True)
class MongoChanges:
    """A collection of records as it changes. Implements `RecordChanges`.

    Attributes:
        database: of the records and of the pipeline's own collections.
        collection: the records.
        fields: the names of their fields.
        wait_s: how long to wait for one change, in seconds.
    """

    database: AsyncDatabase[Document]
    collection: str
    fields: FieldNames
    wait_s: float

    @property
    def _records(self) -> AsyncCollection[Document]:
        return self.database.get_collection(self.collection, codec_options=CODEC)

    @property
    def _ledgers(self) -> AsyncCollection[Document]:
        return self.database.get_collection(LEDGERS, codec_options=CODEC)

    @asynccontextmanager
    async def opened(self, token: str | None) -> AsyncIterator["MongoChangeStream"]:
        try:
            stream = await self._records.watch(
                arriving(self.fields),
                resume_after=None if token is None else json_util.loads(token),
                max_await_time_ms=int(self.wait_s * 1000),
            )
        except (ValueError, TypeError, BSONError) as error:
            raise HistoryLost(f"the resume token {token!r} cannot be read") from error
        except PyMongoError as error:
            _raise_of_opening(error, token)
        async with stream:
            yield MongoChangeStream(stream, self.wait_s)

    async def waiting(self, at: datetime) -> WaitingRecords:
        selection = selection_of_arrivals(at)
        stages = [*selection_pipeline(selection, self.fields), {"$limit": _COUNTED}, {"$count": "records"}]
        unpredicted = {**not_predicted(self.fields), self.fields.created_at: {"$lt": selection.until}}
        newest_first = self._records.find(unpredicted, {self.fields.created_at: 1})
        with _translated():
            counted = await (await self._records.aggregate(stages)).to_list()
            newest = await newest_first.sort(self.fields.created_at, -1).limit(1).to_list()
        created_at = value_at(newest[0], self.fields.created_at) if newest else None
        return WaitingRecords(
            int(str(counted[0]["records"])) if counted else 0,
            created_at if isinstance(created_at, datetime) else None,
        )

    async def is_anything_due(self, at: datetime) -> bool:
        stages = selection_pipeline(selection_of_arrivals(at), self.fields)
        with _translated():
            found = await self._records.aggregate([*stages, {"$limit": 1}, {"$project": {"_id": 1}}])
            return bool(await found.to_list())

    async def woken_runs(self, dag_id: str, since: datetime) -> WokenRuns:
        # The ids begin with the time at which the run was due, so this reads the newest ones only.
        first = run_key(dag_id, f"{_ASSET_TRIGGERED}{since.astimezone(UTC).isoformat(timespec='seconds')}")
        last = run_key(dag_id, _ASSET_TRIGGERED) + "\U0010ffff"
        with _translated():
            commits = (
                await self.database[RUNS].find({"_id": {"$gte": first, "$lt": last}}, {"_id": 1}).to_list()
            )
            # Of a run that was cleared, only the newest generation gets a ledger.
            ids = _newest_generations(str(commit["_id"]) for commit in commits)
            ends = {"held_because": 1, "finished_at": 1}
            found = await self._ledgers.find({"_id": {"$in": ids}}, ends).to_list()
        ledgers: dict[Any, Any] = {ledger["_id"]: ledger for ledger in found}
        newest = ledgers.get(max(ids, default=None), {})
        return WokenRuns(
            unfinished=len(ledgers) < len(ids),
            held_at=newest["finished_at"] if newest.get("held_because") else None,
        )

    def tokens(self, name: str) -> "MongoTokens":
        """Keeps the resume token of a watcher beside the records."""
        return MongoTokens(self.database, f"{name}/{self.collection}")


class MongoChangeStream:
    """An open change stream. Implements `ChangeStream`.

    Its place is that of the last change, not that of the server's last answer: the embedded server's answers
    name places that it does not resume from.
    """

    def __init__(self, stream: AsyncCollectionChangeStream[Document], wait_s: float) -> None:
        self._stream = stream
        self._wait_s = wait_s
        self._place: object = stream.resume_token

    @property
    def token(self) -> str | None:
        return None if self._place is None else json_util.dumps(self._place)

    async def next(self) -> bool:
        try:
            async with asyncio.timeout(self._wait_s + _ANSWER_S):
                change = await self._stream.try_next()
        except TimeoutError as error:
            raise Transient("MongoDB does not answer the change stream") from error
        except OperationFailure as error:
            known = translate(error)
            if isinstance(known, Transient):
                raise known from error
            raise HistoryLost(f"the change stream ended: {known}") from error
        except PyMongoError as error:
            raise translate(error) from error
        if not self._stream.alive:
            raise HistoryLost("the change stream ended: the collection was dropped or renamed")
        if change is None:
            await asyncio.sleep(_BREATH_S)
            return False
        self._place = change["_id"]
        return True


@dataclass(frozen=True)
class MongoTokens:
    """The resume token of one watcher, in a collection of ours. Implements `TokenStore`.

    Attributes:
        database: of the pipeline's own collections.
        name: of the watcher.
    """

    database: AsyncDatabase[Document]
    name: str

    async def load(self) -> str | None:
        with _translated():
            found = await self.database[WATCHES].find_one({"_id": self.name})
        return str(found["token"]) if found else None

    async def save(self, token: str) -> None:
        with _translated():
            await self.database[WATCHES].replace_one(
                {"_id": self.name}, {"_id": self.name, "token": token}, upsert=True
            )

    async def clear(self) -> None:
        with _translated():
            await self.database[WATCHES].delete_one({"_id": self.name})


def _newest_generations(ids: Iterable[str]) -> list[str]:
    """The newest generation of each run."""
    by_number = sorted(ids, key=lambda one: int(one.rpartition("/")[2]))
    return list({one.rpartition("/")[0]: one for one in by_number}.values())


def _raise_of_opening(error: PyMongoError, token: str | None) -> NoReturn:
    """Say why a change stream did not open.

    MongoDB refuses a token that is too old with 286, 280 or 136, one that it cannot read with 9, 50811 or
    another code, and one of another collection with 13 or 260; a server without change streams says 40573,
    115 or 59. So whatever it refuses with a token, it is asked once more without.
    """
    known: MnistOpsError = translate(error)
    refused = isinstance(error, OperationFailure) and error.code not in _WRONG_LOGIN_CODES
    if isinstance(known, Transient) or not refused:
        raise known from error
    if token is not None:
        raise HistoryLost(f"the change stream cannot be resumed: {known}") from error
    raise NoChangeStream(f"no change stream: {known}") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise translate(error) from error
