"""The real parts behind the ports, and one bench of each implementation.

SecantusDB and SeaweedFS are the session's (`tests/support/servers.py`); moto runs in a thread of its own.
"""

import itertools
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from moto.server import ThreadedMotoServer
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.record_index import InMemoryRecordIndex
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.memory.registries import InMemoryDatasets, InMemoryModels, InMemoryRuns
from mnist_ops.adapters.mongo.bson_documents import CODEC, Document, id_json
from mnist_ops.adapters.mongo.record_index import MongoRecordIndex
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.adapters.mongo.registry import MongoDatasets, MongoModels, MongoRuns
from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import (
    DatasetRegistry,
    ModelRegistry,
    ObjectStore,
    RecordIndex,
    RecordStore,
    RunStore,
)
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef, Change, FieldNames, Prediction, PredictionFailure, RecordHead
from mnist_ops.domain.review import ReviewReason
from mnist_ops.local.stack import Stack
from tests.support.servers import running_servers, s3_client

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)

_ONE = Generation("classify_records/one")
_FIRST = BundleRef("lenet5", 1, "memory://objects/models/lenet5/1", "sha256:" + "1" * 64)


# The servers


@pytest.fixture(scope="session")
def embedded() -> Stack:
    """SecantusDB and SeaweedFS, as the embedded stack starts them."""
    running, _ = running_servers()
    return running


@pytest.fixture(scope="session")
def mongo_port(embedded) -> int:
    """Where SecantusDB listens, on 127.0.0.1."""
    return embedded.ports.mongo


@pytest.fixture(scope="session")
def mongo(mongo_port) -> Iterator[MongoClient]:
    """A client of SecantusDB."""
    with MongoClient("127.0.0.1", mongo_port, serverSelectionTimeoutMS=10_000) as client:
        yield client


@pytest.fixture
def database(mongo) -> Database:
    """A database of the test's own; it goes with the server."""
    return mongo[f"contract_{secrets.token_hex(6)}"]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a moto server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_clients(request) -> Callable[..., Any]:
    """Makes clients of `seaweedfs` or `moto`; keyword arguments replace the right ones."""

    def connect(server: str, **options: object) -> Any:
        if server == "moto":
            extra = {"endpoint_url": request.getfixturevalue("moto")}
            return s3_client({"login": "test", "password": "test", "extra": extra}, **options)
        return s3_client(request.getfixturevalue("embedded").connections["aws_default"], **options)

    return connect


# The record stores


class MemoryBench:
    """Records in memory, with what a test does to them from outside."""

    def __init__(self, fields: FieldNames | None = None) -> None:
        self.store: RecordStore = InMemoryRecords(fields)
        self.index: RecordIndex = InMemoryRecordIndex(self.store)

    def insert(self, *documents: Mapping[str, object]) -> None:
        """Add records as a website would."""
        self.store.insert(*documents)

    def raw(self) -> dict[str, bytes]:
        """All records as they are stored, by `id_json`."""
        return {
            id_json(document["_id"]): bson.encode(document, codec_options=CODEC)
            for document in self.store.documents()
        }

    def document(self, record_id: object) -> Document:
        """One record."""
        return self.store.document(record_id)

    def edit(self, record_id: object, **values: object) -> None:
        """Set fields of a record; None takes a field away."""
        document = self.store.document(record_id) | values
        self.store.insert(
            {name: value for name, value in document.items() if values.get(name, 0) is not None}
        )

    def delete(self, record_id: object) -> None:
        """Remove a record."""
        self.store.delete(record_id)


class SecantusBench:
    """Records in SecantusDB, with what a test does to them from outside."""

    def __init__(self, collection: Collection, fields: FieldNames | None = None) -> None:
        self.collection = collection.with_options(codec_options=CODEC)
        self.store: RecordStore = MongoRecords(collection, fields or FieldNames())
        self.index: RecordIndex = MongoRecordIndex(collection, fields or FieldNames())

    def insert(self, *documents: Mapping[str, object]) -> None:
        """Add records as a website would."""
        self.collection.insert_many(documents)

    def raw(self) -> dict[str, bytes]:
        """All records as they are stored, by `id_json`."""
        raw = self.collection.with_options(CODEC.with_options(document_class=RawBSONDocument))
        return {id_json(bson.decode(found.raw, CODEC)["_id"]): found.raw for found in raw.find()}

    def document(self, record_id: object) -> Document:
        """One record."""
        found = self.collection.find_one({"_id": {"$eq": record_id}})
        if found is None:
            raise KeyError(record_id)
        return found

    def edit(self, record_id: object, **values: object) -> None:
        """Set fields of a record; None takes a field away."""
        update = {
            "$set": {name: value for name, value in values.items() if value is not None},
            "$unset": {name: "" for name, value in values.items() if value is None},
        }
        self.collection.update_one(
            {"_id": {"$eq": record_id}}, {operator: fields for operator, fields in update.items() if fields}
        )

    def delete(self, record_id: object) -> None:
        """Remove a record."""
        self.collection.delete_one({"_id": {"$eq": record_id}})


Bench = MemoryBench | SecantusBench


@pytest.fixture(params=["memory", "secantus"])
def make_bench(request) -> Callable[..., Bench]:
    """Makes empty record stores of one implementation, each with its own fields."""
    if request.param == "memory":
        return MemoryBench
    database, numbers = request.getfixturevalue("database"), itertools.count()
    return lambda fields=None: SecantusBench(database[f"records_{next(numbers)}"], fields)


@pytest.fixture
def bench(make_bench) -> Bench:
    """An empty record store."""
    return make_bench()


@pytest.fixture
def secantus(database) -> SecantusBench:
    """An empty collection in SecantusDB, for what only a database does."""
    return SecantusBench(database["records"])


# The object stores and the registries


@pytest.fixture(params=["memory", "seaweedfs", "moto"])
def objects(request) -> ObjectStore:
    """An empty object store, below a prefix of its own."""
    if request.param == "memory":
        return InMemoryObjects()
    client = request.getfixturevalue("s3_clients")(request.param)
    store = S3Objects(client, "mnist-ops", f"contract/{secrets.token_hex(6)}")
    store.ensure_bucket()
    return store


@pytest.fixture(params=["memory", "secantus"])
def runs(request) -> RunStore:
    """No runs yet."""
    return InMemoryRuns() if request.param == "memory" else MongoRuns(request.getfixturevalue("database"))


@pytest.fixture(params=["memory", "secantus"])
def models(request) -> ModelRegistry:
    """No models yet."""
    return InMemoryModels() if request.param == "memory" else MongoModels(request.getfixturevalue("database"))


@pytest.fixture(params=["memory", "secantus"])
def datasets(request) -> DatasetRegistry:
    """No data sets yet."""
    if request.param == "memory":
        return InMemoryDatasets()
    return MongoDatasets(request.getfixturevalue("database"))


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let Python change threads a thousand times more often, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


# What a run writes


@dataclass(frozen=True)
class Writer:
    """Makes the changes that a run's publish would make.

    Attributes:
        generation: whose they are.
        model: which bundle predicted.
        at: when the run selected its records (UTC).
    """

    generation: Generation = _ONE
    model: BundleRef = _FIRST
    at: datetime = AT
    names: tuple[str, ...] = field(default=("zero", "one", "two", "three", "four", "five"))

    def predict(self, head: RecordHead, index: int = 3) -> Change:
        """A prediction for a record."""
        return Change(
            head,
            Prediction(
                label=self.names[index],
                index=index,
                confidence=0.75,
                probabilities={
                    name: 0.75 if number == index else 0.05 for number, name in enumerate(self.names)
                },
                review_reason=ReviewReason.LOW_CONFIDENCE,
                model=self.model,
                image_url=str(head.image_url),
                image_sha256="a" * 64,
                generation=self.generation,
                snapshot="sha256:" + "b" * 64,
                at=self.at,
            ),
        )

    def fail(self, head: RecordHead, reason: Reason = Reason.NOT_FOUND) -> Change:
        """A permanent failure of a record."""
        return Change(
            head,
            PredictionFailure(
                reason=reason,
                detail="the server has no such image",
                image_url=head.image_url,
                attempts=head.failure.attempts + 1,
                first_at=self.at,
                last_at=self.at,
                next_attempt_at=None,
                run=self.generation.run,
            ),
        )


@pytest.fixture
def writer() -> Callable[..., Writer]:
    """Makes writers, one for each run."""
    return Writer
