"""Concurrent runs: two publish the same records, replies are lost, people change records meanwhile."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from pymongo import MongoClient

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.registries import InMemoryModels, InMemoryRuns
from mnist_ops.adapters.mongo.bson_documents import id_json
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.outcomes import FailureBudget
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.records import BundleRef, FieldNames, WriteReport
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.pipeline import utc_now
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES, PREDICTIONS
from mnist_ops.steps.artifacts.shards import ShardHeader, ShardWriter, open_shard
from mnist_ops.steps.assess import assess
from mnist_ops.steps.publish import publish
from mnist_ops.steps.reconcile import reconcile
from mnist_ops.steps.snapshot import SnapshotRequest, snapshot
from tests.faults.lossy_proxy import lossy_proxy

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
OLD = BundleRef("lenet5", 1, "memory://objects/models/1", "sha256:" + "1" * 64)
NEW = BundleRef("lenet5", 2, "memory://objects/models/2", "sha256:" + "2" * 64)
_EVERYTHING = Selection(AT)
# Every tenth record's image is not there.
FAILING = 10


class Meanwhile:
    """A record store that lets something happen before its first batch of changes."""

    def __init__(self, store, happens: Callable[[], object]) -> None:
        self._store = store
        self._happens: Callable[[], object] | None = happens

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def apply(self, changes) -> WriteReport:
        """Let it happen, once, and write."""
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        return self._store.apply(changes)


@dataclass(frozen=True)
class Run:
    """One run of the pipeline over a record store, its pictures apart.

    Attributes:
        store: the records.
        objects: where snapshots and shards go.
        runs: commits and ledgers.
        generation: whose run it is.
        model: the champion when it takes its snapshot.
        selection: which records it takes.
    """

    store: object
    objects: InMemoryObjects
    runs: InMemoryRuns
    generation: Generation
    model: BundleRef = OLD
    selection: Selection = _EVERYTHING
    attempt: str = "attempt"

    def snapshot(self) -> str:
        """Take the snapshot; returns the manifest's URI."""
        models = InMemoryModels()
        models.promote(self.model, None, Promotion(AT, "ada", "the first"))
        request = SnapshotRequest(self.generation, self.selection, self.attempt, "lenet5", 20_000)
        return snapshot(request, records=self.store, objects=self.objects, runs=self.runs, models=models)

    def predict(self, manifest_uri: str) -> tuple[str, str]:
        """Make the only part's prediction shard and the assessment; returns their URIs."""
        manifest = read_manifest(self.objects, manifest_uri)
        (part,) = manifest.parts
        with ShardWriter(PREDICTIONS) as shard:
            for document in read_part(self.objects, part):
                shard.add(_prediction(self.store.head(document)))
            header = ShardHeader(
                PREDICTIONS.name, manifest_uri, 0, shard.records, {}, {}, labels=DIGITS.names
            )
            predictions = shard.store(self.objects, self.generation, header)
        budget = FailureBudget(share=1.0)
        return predictions, assess(
            manifest_uri, [predictions], objects=self.objects, runs=self.runs, budget=budget
        )

    def publish(self, shard_and_assessment: tuple[str, str], store: object = None) -> str:
        """Write into the records; returns the outcome shard's URI."""
        return publish(*shard_and_assessment, records=store or self.store, objects=self.objects, now=utc_now)

    def reconcile(self, manifest_uri: str, outcomes: str) -> Mapping[str, int]:
        """Write the ledger, which must add up; returns the outcomes that occurred."""
        ledger = reconcile(
            manifest_uri,
            [outcomes],
            records=self.store,
            objects=self.objects,
            runs=self.runs,
            now=lambda: AT + timedelta(hours=1),
            budget=FailureBudget(share=1.0),
            prices=Prices(),
        )
        assert ledger.imbalance() is None
        return {name: count for name, count in ledger.outcomes.items() if count}

    def ready(self) -> tuple[str, tuple[str, str]]:
        """Everything up to publish: the manifest, and what publish takes."""
        manifest = self.snapshot()
        return manifest, self.predict(manifest)


def _prediction(head) -> dict[str, object]:
    if head.id % FAILING == 0:
        return {
            "record_id": head.id_json,
            "url": head.image_url,
            "reason": "not_found",
            "detail": "the server has no such image",
        }
    index = head.id % 10
    return {
        "record_id": head.id_json,
        "url": head.image_url,
        "sha256": "a" * 64,
        "probabilities": [0.91 if number == index else 0.01 for number in range(10)],
        "index": index,
        "confidence": 0.91,
        "needs_review": False,
        "review_reason": None,
    }


def _records(count: int) -> list[dict[str, object]]:
    return [
        {
            "_id": n,
            "image_url": f"https://images.example/{n}.png",
            "created_at": AT - timedelta(minutes=n + 1),
        }
        for n in range(count)
    ]


def _run(bench, name: str = "one", **other: object) -> Run:
    return Run(
        bench.store, InMemoryObjects(), InMemoryRuns(), Generation(f"classify_records/{name}"), **other
    )


def _outcomes(run: Run, uri: str) -> dict[int, str]:
    with open_shard(run.objects, uri, OUTCOMES) as shard:
        return {int(row["record_id"].split('"')[3]): row["outcome"] for row in shard.rows()}


def _together(*calls: Callable[[], object]) -> list[object]:
    """Make calls in separate threads; returns their results."""
    results: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda n=n, call=call: results.update({n: call()}))
        for n, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(calls))]


def _with_mark(bench, name: str) -> set[int]:
    """The records that carry a mark of a run, be it a prediction or a failure."""
    run = f"classify_records/{name}"
    return {
        document["_id"]
        for document in (bench.document(int(key.split('"')[3])) for key in bench.raw())
        if run
        in (document.get("prediction", {}).get("run"), document.get("prediction_failure", {}).get("run"))
    }


# Two at once


@pytest.mark.usefixtures("hasty_threads")
def test_two_runs_over_the_same_records_at_once_give_one_outcome_each(bench):
    """Two publishes write at the same moment: a record gets one; to the other run it is a conflict."""
    bench.insert(*_records(200))
    runs = {name: _run(bench, name, model=model) for name, model in (("one", OLD), ("two", NEW))}
    ready = {name: run.ready() for name, run in runs.items()}
    barrier = threading.Barrier(2)

    def publishing(name: str) -> Callable[[], str]:
        return lambda: runs[name].publish(ready[name][1], Meanwhile(bench.store, barrier.wait))

    shards = dict(zip(runs, _together(publishing("one"), publishing("two")), strict=True))
    outcomes = {name: _outcomes(run, shards[name]) for name, run in runs.items()}
    written = {
        name: {number for number, outcome in rows.items() if outcome in ("predicted", "quarantined")}
        for name, rows in outcomes.items()
    }
    assert written["one"] | written["two"] == set(range(200))
    assert written["one"] & written["two"] == set()
    assert {name: _with_mark(bench, name) for name in runs} == written
    assert [set(rows.values()) - {"predicted", "quarantined", "conflict"} for rows in outcomes.values()] == [
        set(),
        set(),
    ]
    assert not any("prediction_history" in bench.document(number) for number in range(200))
    for name, run in runs.items():
        run.reconcile(ready[name][0], shards[name])


@pytest.mark.usefixtures("hasty_threads")
def test_one_run_published_twice_at_once_has_one_effect(bench):
    """A task that runs twice at the same time reports the same outcomes, and the records are written once."""
    bench.insert(*_records(200))
    run = _run(bench)
    manifest, ready = run.ready()
    barrier = threading.Barrier(2)
    stores = [Meanwhile(bench.store, barrier.wait) for _ in range(2)]
    one, two = _together(*(lambda store=store: run.publish(ready, store) for store in stores))
    assert _outcomes(run, one) == _outcomes(run, two)
    assert run.reconcile(manifest, one) == {"predicted": 180, "quarantined": 20}
    assert not any("prediction_history" in bench.document(number) for number in range(200))
    assert {bench.document(n)["prediction_failure"]["attempts"] for n in range(0, 200, 10)} == {1}


def test_one_generation_snapshotted_twice_at_once_has_one_manifest(bench, runs):
    """Two attempts take a snapshot at the same time: both go on with the manifest that was committed."""
    bench.insert(*_records(50))
    objects = InMemoryObjects()
    attempts = [
        replace(_run(bench), objects=objects, runs=runs, attempt=f"attempt-{number}") for number in range(4)
    ]
    uris = _together(*(attempt.snapshot for attempt in attempts))
    assert len(set(uris)) == 1
    assert runs.committed(attempts[0].generation) == uris[0]
    assert read_manifest(objects, uris[0]).records == 50


def test_a_late_attempt_changes_nothing(bench):
    """Published again after it was published, a part finds its own marks: same outcomes, same bytes."""
    bench.insert(*_records(50))
    run = _run(bench)
    _, ready = run.ready()
    first = run.publish(ready)
    before = bench.raw()
    assert _outcomes(run, run.publish(ready)) == _outcomes(run, first)
    assert bench.raw() == before


def test_a_late_older_run_changes_nothing(bench):
    """What a newer run has reclassified meanwhile is a conflict to the older one."""
    bench.insert(*_records(50))
    older = _run(bench, "older")
    _, ready = older.ready()
    older.publish(ready)
    newer = _run(
        bench, "newer", model=NEW, selection=Selection(AT + timedelta(1), reclassify=Reclassify.STALE)
    )
    newer.publish(newer.ready()[1])
    before = bench.raw()
    outcomes = _outcomes(older, older.publish(ready))
    assert {outcomes[number] for number in range(50) if number % FAILING} == {"conflict"}
    assert bench.raw() == before


# People and other programs at work meanwhile


def test_what_people_change_in_mid_run_is_kept(bench):
    """A human label, an edited URL and a deletion between snapshot and write are left as they are."""
    bench.insert(*_records(40))
    run = _run(bench)
    manifest, ready = run.ready()

    def happens() -> None:
        bench.edit(1, label="nine")
        bench.edit(2, image_url="https://images.example/new.png")
        bench.delete(3)
        bench.edit(10, label="zero")
        bench.delete(20)

    before = bench.raw()
    shard = run.publish(ready, Meanwhile(bench.store, happens))
    outcomes = _outcomes(run, shard)
    assert {number: outcomes[number] for number in (1, 2, 3, 10, 20)} == {
        1: "conflict",
        2: "conflict",
        3: "gone",
        10: "conflict",
        20: "gone",
    }
    assert bench.document(1) == _records(40)[1] | {"label": "nine"}
    assert bench.document(2) == _records(40)[2] | {"image_url": "https://images.example/new.png"}
    assert bench.document(10) == _records(40)[10] | {"label": "zero"}
    assert set(before) - set(bench.raw()) == {id_json(3), id_json(20)}
    assert run.reconcile(manifest, shard) == {"predicted": 33, "quarantined": 2, "conflict": 3, "gone": 2}


def test_records_that_were_not_selected_keep_their_bytes(bench):
    """Labelled, predicted, failed and later records are the same before and after a run."""
    former = {"label": "two", "run": "r", "generation": 0, "model": {"digest": OLD.digest}}
    bench.insert(
        *_records(30),
        {"_id": "labelled", "image_url": "https://images.example/a.png", "created_at": AT, "label": "one"},
        {"_id": "predicted", "image_url": "https://images.example/b.png", "prediction": former},
        {"_id": "later", "image_url": "https://images.example/c.png", "created_at": AT + timedelta(days=1)},
    )
    before = bench.raw()
    run = _run(bench, selection=Selection(AT, until=AT))
    manifest, ready = run.ready()
    assert run.reconcile(manifest, run.publish(ready)) == {"predicted": 27, "quarantined": 3}
    after = bench.raw()
    for name in ("labelled", "predicted", "later"):
        assert after[id_json(name)] == before[id_json(name)]


def test_a_second_run_finds_nothing_left(bench):
    """Everything has its outcome after the first: predicted, or failed for good."""
    bench.insert(*_records(30))
    run = _run(bench)
    run.publish(run.ready()[1])
    before = bench.raw()
    again = _run(bench, "two", selection=Selection(AT + timedelta(days=30)))
    assert read_manifest(again.objects, again.snapshot()).records == 0
    assert bench.raw() == before


def test_a_record_that_the_database_refuses_is_tried_again_later_with_its_message(secantus):
    """The collection's validator refuses sevens: those are tried again later, all others written."""
    secantus.insert(*_records(50))
    secantus.collection.database.command(
        "collMod", "records", validator={"prediction.index": {"$ne": 7}}, validationLevel="strict"
    )
    run = _run(secantus)
    manifest, ready = run.ready()
    expected = {"predicted": 40, "quarantined": 5, "retry_later": 5}
    assert run.reconcile(manifest, run.publish(ready)) == expected
    assert run.reconcile(manifest, run.publish(ready)) == expected
    for number in range(7, 50, 10):
        document = secantus.document(number)
        assert "prediction" not in document
        assert document["prediction_failure"]["reason"] == "write_refused"
        assert "code 121" in document["prediction_failure"]["detail"]


# Lost requests and lost replies


@pytest.fixture(params=[True, False], ids=["the driver retries", "the driver does not retry"])
def lossy(request, mongo_port, database, secantus):
    """A run over 90 predicted records and 10 failed ones, through a proxy that can lose things."""
    secantus.insert(*_records(100))
    first = _run(secantus, "first")
    first.publish(first.ready()[1])
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient(
            "127.0.0.1",
            proxy.port,
            directConnection=True,
            retryWrites=request.param,
            serverSelectionTimeoutMS=5_000,
        ) as client,
    ):
        store = MongoRecords(client[database.name]["records"], FieldNames())
        selection = Selection(AT + timedelta(days=1), reclassify=Reclassify.STALE)
        yield proxy, replace(_run(secantus, "second", model=NEW, selection=selection), store=store)


@pytest.mark.parametrize("what", ["lose_reply_to", "lose_request"])
@pytest.mark.parametrize("times", [1, 2])
def test_each_record_is_written_once_when_something_is_lost(secantus, lossy, what, times):
    """The reply to a bulk, or the bulk itself, is lost: every record carries one new prediction."""
    proxy, run = lossy
    manifest, ready = run.ready()
    getattr(proxy, what)("update", times)
    shard = run.publish(ready)
    # A reply that was lost once is not lost again where nobody sends again.
    assert set(proxy.lost) == {"update"}
    assert run.reconcile(manifest, shard) == {"predicted": 90}
    documents = [document for document in secantus.store.documents() if document["_id"] % FAILING]
    assert {document["prediction"]["run"] for document in documents} == {"classify_records/second"}
    assert {document["prediction"]["model"]["version"] for document in documents} == {2}
    histories = [[former["run"] for former in document["prediction_history"]] for document in documents]
    assert histories == [["classify_records/first"]] * 90


def test_a_failure_whose_reply_was_lost_counts_one_attempt(secantus, mongo_port, database):
    """The failures of a part are written once, and their attempts counted once."""
    secantus.insert(*(record for record in _records(200) if record["_id"] % FAILING == 0))
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient("127.0.0.1", proxy.port, directConnection=True, retryWrites=False) as client,
    ):
        store = MongoRecords(client[database.name]["records"], FieldNames())
        run = replace(_run(secantus), store=store)
        manifest, ready = run.ready()
        proxy.lose_reply_to("update")
        assert run.reconcile(manifest, run.publish(ready)) == {"quarantined": 20}
        assert proxy.lost == ["update"]
    assert {document["prediction_failure"]["attempts"] for document in secantus.store.documents()} == {1}


def test_a_human_label_is_kept_also_if_the_reply_was_lost(secantus, mongo_port, database):
    """The label comes before the write whose reply is lost: reading back finds a conflict."""
    secantus.insert(*_records(20))
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient("127.0.0.1", proxy.port, directConnection=True, retryWrites=False) as client,
    ):
        run = replace(_run(secantus), store=MongoRecords(client[database.name]["records"], FieldNames()))
        manifest, ready = run.ready()
        secantus.edit(1, label="nine")
        proxy.lose_reply_to("update")
        shard = run.publish(ready)
        assert run.reconcile(manifest, shard) == {"predicted": 17, "quarantined": 2, "conflict": 1}
    assert secantus.document(1) == _records(20)[1] | {"label": "nine"}
