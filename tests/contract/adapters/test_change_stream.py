"""The change stream of the records on SecantusDB: what passes, and what happens when it is not there."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from pymongo import MongoClient, ReplaceOne, UpdateOne
from pymongo.collection import Collection
from secantus import SecantusDBServer

from mnist_ops.adapters.mongo.change_stream import MongoChanges, connected_changes
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.domain.arrivals import (
    Cause,
    HistoryLost,
    NoChangeStream,
    TokenStore,
    WaitingRecords,
    Wake,
    WokenRuns,
)
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.keys import run_key
from mnist_ops.domain.records import FieldNames, RecordHead
from mnist_ops.pipeline import utc_now
from mnist_ops.steps.watch import Clock, Pace, Watch

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
NESTED = FieldNames(image_url="source.image.url", label="truth.label")
WAIT_S = 0.1


@dataclass(frozen=True)
class Watched:
    """A collection of records as a website writes to it, and as it is watched."""

    port: int
    collection: Collection
    fields: FieldNames

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[MongoChanges]:
        """A connection of the watcher's."""
        place = (self.collection.database.name, self.collection.name)
        async with connected_changes(
            Connection("127.0.0.1", self.port), place, self.fields, WAIT_S
        ) as changes:
            yield changes

    def insert(self, *ids: object, **other: object) -> None:
        """Add records that wait for a label."""
        self.collection.insert_many(
            [
                {"_id": id_, "created_at": AT, "image_url": f"http://images/{id_}", **other}
                for id_ in (ids or [secrets.token_hex(4)])
            ]
        )

    def wakes(self, act: Callable[[], object], tokens: TokenStore, seconds: float = 1.0) -> list[Wake]:
        """Watch for some seconds, and act as soon as the records are watched."""

        async def collected() -> list[Wake]:
            found: list[Wake] = []
            clock = Clock(utc_now, asyncio.get_running_loop().time, asyncio.sleep)
            watch = Watch(self.changes, tokens, Pace(WAIT_S, 0.3), clock)

            async def collect() -> None:
                async with aclosing(watch.wakes()) as wakes:
                    async for wake in wakes:
                        found.append(wake)  # noqa: PERF401 (what was found is there after the time is up)

            collecting = asyncio.create_task(collect())
            await asyncio.sleep(0.3)
            await asyncio.to_thread(act)
            await asyncio.sleep(seconds)
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            return found

        return asyncio.run(collected())


@dataclass
class Tokens:
    """A place in the stream, kept here."""

    token: str | None = None

    async def load(self) -> str | None:
        return self.token

    async def save(self, token: str) -> None:
        self.token = token

    async def clear(self) -> None:
        self.token = None


@pytest.fixture
def watched(database, mongo_port) -> Watched:
    """Records in the session's server."""
    return Watched(mongo_port, database["records"], FieldNames())


@pytest.fixture
def nested(database, mongo_port) -> Watched:
    """Records whose fields are dotted paths."""
    return Watched(mongo_port, database["nested"], NESTED)


@pytest.fixture(scope="module")
def make_server(tmp_path_factory) -> Iterator[Callable[..., tuple[SecantusDBServer, MongoClient]]]:
    """Starts servers of this file's own, each with a client of it."""
    started: list[tuple[SecantusDBServer, MongoClient]] = []

    def start(**options: object) -> tuple[SecantusDBServer, MongoClient]:
        folder = tmp_path_factory.mktemp("secantus")
        server = SecantusDBServer(storage_path=str(folder), cache_size="64M", **options)
        server.start()
        client: MongoClient = MongoClient("127.0.0.1", server.port)
        started.append((server, client))
        return server, client

    yield start
    for server, client in started:
        client.close()
        server.stop()


def seen(watched: Watched, act: Callable[[Collection], object]) -> int:
    """How many changes the stream lets pass while somebody acts."""

    async def count() -> int:
        async with watched.changes() as changes, changes.opened(None) as stream:
            await asyncio.to_thread(act, watched.collection)
            number = 0
            while await stream.next():
                number += 1
            return number

    return asyncio.run(count())


@pytest.mark.parametrize(
    "act",
    [
        lambda records: records.insert_one({"_id": 2}),
        lambda records: records.replace_one({"_id": 1}, {"note": "all of it is new"}),
        lambda records: records.bulk_write([ReplaceOne({"_id": 3}, {"_id": 3}, upsert=True)]),
        lambda records: records.update_one({"_id": 1}, {"$set": {"image_url": "http://images/new.png"}}),
        lambda records: records.update_one({"_id": 1}, [{"$set": {"image_url": "http://images/new.png"}}]),
        lambda records: records.update_one({"_id": 1}, {"$unset": {"image_url": ""}}),
        lambda records: records.update_one({"_id": 1}, {"$unset": {"prediction_failure": ""}}),
        lambda records: records.update_one({"_id": 1}, {"$unset": {"label": ""}}),
    ],
    ids=["insert", "replace", "upsert", "set", "pipeline", "unset url", "unset failure", "unset label"],
)
def test_a_change_that_may_make_a_record_wait_is_seen(watched, act) -> None:
    """Each of them wakes a run."""
    watched.insert(1, label="two", prediction_failure={"reason": "not_found"})
    assert seen(watched, act) == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda records: records.update_one({"_id": 1}, {"$set": {"source.image.url": "http://images/new"}}),
        lambda records: records.update_one({"_id": 1}, {"$set": {"source.image": {"url": "http://new"}}}),
        lambda records: records.update_one(
            {"_id": 1}, {"$set": {"source": {"image": {"url": "http://new"}}}}
        ),
        lambda records: records.update_one({"_id": 1}, {"$unset": {"source.image.url": ""}}),
        lambda records: records.update_one({"_id": 1}, {"$unset": {"source": ""}}),
    ],
    ids=["set", "set its parent", "set the whole", "unset", "unset the whole"],
)
def test_a_nested_url_is_seen_whichever_part_of_its_path_is_written(nested, act) -> None:
    """An update names the path that it wrote, which may be a parent's."""
    nested.collection.insert_one({"_id": 1, "source": {"image": {"url": "http://images/1"}}})
    assert seen(nested, act) == 1


@pytest.mark.parametrize(
    "update",
    [{"source.image.width": 28}, {"source.images": ["http://images/1"]}, {"url": "http://images/1"}],
    ids=["a sister", "a name that begins alike", "a name that ends alike"],
)
def test_other_fields_are_not_the_url(nested, update) -> None:
    """Nobody waits for them."""
    nested.collection.insert_one({"_id": 1, "source": {"image": {"url": "http://images/1"}}})
    assert seen(nested, lambda records: records.update_one({"_id": 1}, {"$set": update})) == 0


def test_what_the_pipeline_writes_is_not_seen(watched, writer) -> None:
    """Each run would else wake the next, for ever."""
    watched.insert("predicted", "failed", "again")
    store = MongoRecords(watched.collection, FieldNames())

    def heads() -> dict[object, RecordHead]:
        return {head.id: head for head in store.heads(['"predicted"', '"failed"', '"again"']).values()}

    def runs(_: Collection) -> None:
        first, second = writer(), writer(at=AT + timedelta(hours=1))
        found = heads()
        store.apply(
            [first.predict(found["predicted"]), first.fail(found["failed"]), first.fail(found["again"])]
        )
        found = heads()
        report = store.apply([second.predict(found["predicted"]), second.predict(found["again"])])
        assert report.matched == 2

    assert seen(watched, runs) == 0


def test_a_burst_makes_at_most_two_wakes(watched) -> None:
    """The first comes at once; the second takes what came after it, if the burst lasted longer."""
    woken = watched.wakes(lambda: watched.insert(*range(500)), Tokens())
    assert len(woken) <= 2
    assert sum(wake.changes for wake in woken) == 500


def test_what_happened_while_nobody_watched_is_seen_after_the_next_start(watched) -> None:
    """The token is kept where it outlives the watcher."""
    tokens = Tokens()
    watched.wakes(lambda: watched.insert("seen"), tokens, 0.6)
    watched.insert("missed", "missed too")
    watched.collection.database["others"].insert_one({"note": "what is written elsewhere does not matter"})
    assert watched.wakes(lambda: None, tokens, 0.6) == [Wake(Cause.STARTED, 2)]


def test_a_token_is_kept_beside_the_records(watched) -> None:
    """By the name of its watcher, until it is forgotten."""

    async def kept() -> list[str | None]:
        async with watched.changes() as changes:
            mine, other = changes.tokens("mine"), changes.tokens("other")
            await mine.save("1")
            await mine.save("2")
            found = [await mine.load(), await other.load()]
            await mine.clear()
            return [*found, await mine.load()]

    assert asyncio.run(kept()) == ["2", None, None]


@pytest.mark.parametrize(
    "token", ['{"_data": "zz"}', '{"_data": "8263"}', "{}", "no JSON", '"text"'], ids=str
)
def test_a_token_that_the_server_refuses_is_a_lost_history(watched, token) -> None:
    """The next attempt has none, so that it is not tried for ever."""

    async def open_it() -> None:
        async with watched.changes() as changes, changes.opened(token):
            raise AssertionError("it opened")

    with pytest.raises(HistoryLost):
        asyncio.run(open_it())


def test_a_history_that_the_server_has_dropped_makes_one_wake_for_what_was_missed(make_server) -> None:
    """Code 286 of a server whose log of changes has moved on; then the stream goes on from now."""
    server, client = make_server(oplog_max_entries=20)
    small, tokens = Watched(server.port, client["mnist"]["records"], FieldNames()), Tokens()
    small.wakes(lambda: small.insert("seen"), tokens, 0.5)
    before = tokens.token
    small.insert(*range(100))
    assert server.storage.prune_oplog() > 0  # which it does by itself after every thousand changes
    assert small.wakes(lambda: None, tokens, 2.0) == [Wake(Cause.HISTORY_LOST, 0)]
    assert tokens.token not in {before, None}


def test_a_collection_that_is_dropped_is_watched_again(watched) -> None:
    """Its stream ends; a website may create it again."""
    watched.insert("before")

    def drop_and_insert() -> None:
        watched.collection.drop()
        watched.insert("after")

    woken = watched.wakes(drop_and_insert, Tokens(), 2.0)
    assert Cause.HISTORY_LOST in {wake.cause for wake in woken}


def test_without_change_streams_waiting_records_are_counted(make_server) -> None:
    """A server that is no replica set refuses with 40573."""
    server, client = make_server(replica_set_name=None)
    alone = Watched(server.port, client["mnist"]["records"], FieldNames())

    async def open_it() -> None:
        async with alone.changes() as changes, changes.opened(None):
            raise AssertionError("it opened")

    with pytest.raises(NoChangeStream, match="only supported on replica sets"):
        asyncio.run(open_it())
    assert alone.wakes(alone.insert, Tokens(), 1.2) == [Wake(Cause.QUERIED, 0)]


def test_only_records_that_a_run_would_take_are_counted(watched) -> None:
    """Neither labelled nor predicted ones, nor those that failed for good; but the newest of all is known."""
    watched.insert("waits")
    watched.insert("labelled", label="two")
    watched.insert("failed", prediction_failure={"attempts": 1, "image_url": "http://images/failed"})
    watched.insert("predicted", prediction={"model": {"digest": "sha256:1"}})

    async def look() -> tuple[WaitingRecords, bool]:
        async with watched.changes() as changes:
            return await changes.waiting(AT), await changes.is_anything_due(AT)

    assert asyncio.run(look()) == (WaitingRecords(1, AT), True)


@pytest.mark.parametrize(
    ("run_id", "has_ledger", "unfinished"),
    [
        ("asset_triggered__2026-01-31T11:59:00.5+00:00_x", False, True),
        ("asset_triggered__2026-01-31T11:59:00.5+00:00_x", True, False),
        ("asset_triggered__2026-01-31T10:59:00.5+00:00_x", False, False),
        ("scheduled__2026-01-31T11:59:00+00:00", False, False),
    ],
    ids=["in progress", "finished", "given up", "not woken"],
)
def test_a_run_is_unfinished_until_it_has_a_ledger(watched, run_id, has_ledger, unfinished) -> None:
    """For an hour: then it was given up."""
    database, key = watched.collection.database, f"{run_key('classify_records', run_id)}/0"
    database["mnist_ops_runs"].insert_one({"_id": key})
    if has_ledger:
        database["mnist_ops_ledgers"].insert_one({"_id": key})

    async def ask() -> bool:
        async with watched.changes() as changes:
            return (await changes.woken_runs("classify_records", AT - timedelta(hours=1))).unfinished

    assert asyncio.run(ask()) is unfinished


def test_a_run_that_was_cleared_is_finished_once_its_newest_generation_is(watched) -> None:
    """The one before never gets a ledger."""
    database = watched.collection.database
    run = run_key("classify_records", "asset_triggered__2026-01-31T11:59:00.5+00:00_x")
    database["mnist_ops_runs"].insert_many([{"_id": f"{run}/{number}"} for number in range(11)])
    database["mnist_ops_ledgers"].insert_one({"_id": f"{run}/10"})

    async def ask() -> WokenRuns:
        async with watched.changes() as changes:
            return await changes.woken_runs("classify_records", AT - timedelta(hours=1))

    assert asyncio.run(ask()) == WokenRuns()


@pytest.mark.parametrize(
    ("ledgers", "held_at"),
    [
        ([{"held_because": "2 of 4 records failed"}], AT),
        ([{"held_because": None}], None),
        ([{"held_because": "2 of 4 records failed"}, {"held_because": None}], None),
    ],
    ids=["held", "within the budget or released", "a later one is not"],
)
def test_it_is_known_when_the_newest_woken_run_ended_if_it_is_held(watched, ledgers, held_at) -> None:
    """The next one would take its records again."""
    database = watched.collection.database
    for number, ledger in enumerate(ledgers):
        run = run_key("classify_records", f"asset_triggered__2026-01-31T11:5{number}:00.5+00:00_x")
        database["mnist_ops_runs"].insert_one({"_id": f"{run}/0"})
        database["mnist_ops_ledgers"].insert_one({"_id": f"{run}/0", "finished_at": AT} | ledger)

    async def ask() -> WokenRuns:
        async with watched.changes() as changes:
            return await changes.woken_runs("classify_records", AT - timedelta(hours=1))

    assert asyncio.run(ask()) == WokenRuns(unfinished=False, held_at=held_at)


def test_an_update_of_many_records_is_seen_as_many_changes(watched) -> None:
    """A website may move its images to another host."""
    watched.insert(*range(3))
    moves = [UpdateOne({"_id": number}, {"$set": {"image_url": "http://new"}}) for number in range(3)]
    assert seen(watched, lambda records: records.bulk_write(moves)) == 3
