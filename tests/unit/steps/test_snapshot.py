"""Snapshot: the selected records, byte for byte, committed once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from uuid import UUID

import bson
import pytest
from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.mongo.bson_documents import CODEC
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.settings import Settings
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.snapshot import part_sizes
from tests.support.pipeline_in_memory import CREATED, MODEL, PROMOTION, Pipeline, url_of

EVERY_TYPE = {
    "double": 1.5,
    "not a number": float("nan"),
    "infinity": float("-inf"),
    "negative zero": -0.0,
    "string": "sieben \u00e9\U0001f600\0",
    "document": {"b": 1, "a": {"$set": 2}},
    "array": [1, [2, {}], None],
    "binary": b"\0\xff",
    "user binary": Binary(b"abc", 128),
    "uuid": Binary.from_uuid(UUID(int=7)),
    "old uuid": Binary(bytes(16), 3),
    "object id": ObjectId("0123456789abcdef01234567"),
    "boolean": True,
    "date": datetime(2026, 1, 31, 12, 0, 0, 123_000, tzinfo=UTC),
    "date before Python's years": DatetimeMS(-(2**62)),
    "date after Python's years": DatetimeMS(2**62),
    "null": None,
    "regex": Regex("^a.*$", "im"),
    "reference": DBRef("other", ObjectId("0123456789abcdef01234567"), "database"),
    "code": Code("function() {}"),
    "code with scope": Code("function() {}", {"x": 1}),
    "int32": 7,
    "int64": Int64(7),
    "large int64": Int64(2**62),
    "timestamp": Timestamp(1, 2),
    "decimal": Decimal128(Decimal("1.10")),
    "decimal NaN": Decimal128("NaN"),
    "min key": MinKey(),
    "max key": MaxKey(),
    "": "an empty name",
    "$where": "a name with a dollar",
    "a.b": "a name with a dot",
}


class StoredBytes(InMemoryRecords):
    """Records that return given bytes, as a database returns what it has stored."""

    def __init__(self, documents: list[bytes]) -> None:
        super().__init__()
        self.stored = documents

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        """All of them, in one batch."""
        yield b"".join(self.stored)


class WithRival(InMemoryRecords):
    """Records during whose reading another attempt commits the same snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.rival = lambda: None

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        """The selected records, after the other attempt."""
        rival, self.rival = self.rival, lambda: None
        rival()
        yield from super().raw_batches(selection)


def restored(pipeline: Pipeline, manifest: str) -> list[bytes]:
    """Return the documents of all parts."""
    parts = pipeline.manifest(manifest).parts
    return [document for part in parts for document in read_part(pipeline.objects, part)]


def ids(pipeline: Pipeline, manifest: str) -> list[object]:
    """Return the `_id` of each record in a snapshot."""
    return [bson.decode(document)["_id"] for document in restored(pipeline, manifest)]


def keys(pipeline: Pipeline, beginning: str = "snapshots/") -> list[str]:
    """Return the keys of the store under a prefix."""
    return list(pipeline.objects.keys(beginning))


@pytest.mark.parametrize("name", sorted(EVERY_TYPE))
def test_a_value_of_every_bson_type_is_restored_byte_for_byte(pipeline: Pipeline, name: str) -> None:
    """Also those that Python would round, reorder or refuse."""
    document = bson.encode({"_id": 1, "before": 0, name: EVERY_TYPE[name], "after": 0})
    pipeline.records = StoredBytes([document])
    assert restored(pipeline, pipeline.snapshot()) == [document]


def test_every_type_together_and_every_type_as_id_is_restored_byte_for_byte(
    pipeline: Pipeline,
) -> None:
    """A manifest names the first and the last record, whatever their ids are."""
    of_any_type = [value for name, value in EVERY_TYPE.items() if name not in ("array", "regex")]
    documents = [bson.encode({"_id": value, **EVERY_TYPE}) for value in of_any_type]
    pipeline.records = StoredBytes(documents)
    assert restored(pipeline, pipeline.snapshot(records_per_part=1)) == documents


def test_broken_utf8_is_restored_byte_for_byte(pipeline: Pipeline) -> None:
    """Old drivers have left it in real collections."""
    document = bson.encode({"_id": 1, "text": "abcd"}).replace(b"abcd", b"\xff\xfe\xc0\x80")
    pipeline.records = StoredBytes([document])
    assert restored(pipeline, pipeline.snapshot()) == [document]


def test_the_order_of_a_records_fields_is_kept(pipeline: Pipeline) -> None:
    """Two documents that differ in it are different documents to MongoDB."""
    document = {"z": 1, "_id": 1, "a": {"y": 1, "b": 2}}
    pipeline.records.insert(document)
    assert restored(pipeline, pipeline.snapshot()) == [bson.encode(document, codec_options=CODEC)]


def test_a_snapshot_is_cut_into_parts_of_the_given_size(pipeline: Pipeline) -> None:
    """The manifest numbers and counts them, and tells where each begins and ends."""
    for number in range(7):
        pipeline.add(number)
    parts = pipeline.manifest(pipeline.snapshot(records_per_part=3)).parts
    assert [(part.number, part.records) for part in parts] == [(0, 3), (1, 3), (2, 1)]
    assert [part.first_id for part in parts] == [f'{{"$numberInt": "{first}"}}' for first in (0, 3, 6)]
    assert [part.last_id for part in parts] == [f'{{"$numberInt": "{last}"}}' for last in (2, 5, 6)]
    assert all(part.size == len(pipeline.objects.get_bytes(part.uri)) for part in parts)


@given(st.integers(1, 100_000), st.integers(0, 10**8))
def test_a_run_never_maps_two_hundred_tasks(records_per_part: int, records: int) -> None:
    """Three tasks a part (fetch, classify, publish), however many records wait, however small parts are."""
    sizes = part_sizes(records_per_part)
    parts = 0
    while records > 0:
        records -= next(sizes)
        parts += 1
    assert parts * 3 < 200


def test_a_million_records_are_cut_into_parts_of_seconds() -> None:
    """At the default they are 123 mapped tasks, and no part is more than four times the first."""
    sizes = list(islice(part_sizes(Settings().records_per_part), 41))
    assert sum(sizes) >= 1_000_000 > sum(sizes[:-1])
    assert sizes == sorted(sizes)
    assert sizes[-1] == 4 * sizes[0]


def test_parts_grow_when_many_accumulate(pipeline: Pipeline) -> None:
    """In order, and without counting the records first."""
    for number in range(60):
        pipeline.add(number)
    manifest = pipeline.snapshot(records_per_part=1)
    parts = pipeline.manifest(manifest).parts
    assert [part.records for part in parts] == [1] * 32 + [2] * 8 + [4] * 3
    assert ids(pipeline, manifest) == list(range(60))


def test_the_same_window_gives_the_same_part_digests(pipeline: Pipeline) -> None:
    """In whatever run, by whatever attempt."""
    for number in range(7):
        pipeline.add(number)
    one, other = (pipeline.manifest(pipeline.snapshot(run, records_per_part=3)) for run in ("a/1", "b/2"))
    assert [part.sha256 for part in one.parts] == [part.sha256 for part in other.parts]
    assert not {part.uri for part in one.parts} & {part.uri for part in other.parts}


def test_a_retry_finds_and_reuses_the_snapshot(pipeline: Pipeline) -> None:
    """Records that arrived meanwhile are for the next run, and nothing is written again."""
    pipeline.add(1)
    first = pipeline.snapshot()
    before = keys(pipeline)
    pipeline.add(2)
    assert pipeline.snapshot() == first
    assert keys(pipeline) == before


def test_the_next_generation_selects_again(pipeline: Pipeline) -> None:
    """Clearing the snapshot task asks for that."""
    pipeline.add(1)
    first = pipeline.snapshot(generation=0)
    pipeline.add(2)
    second = pipeline.snapshot(generation=1)
    assert (ids(pipeline, first), ids(pipeline, second)) == ([1], [1, 2])
    assert pipeline.manifest(second).generation == Generation("dag/run", 1)


def test_of_two_attempts_at_once_the_second_adopts_the_first(pipeline: Pipeline) -> None:
    """Airflow may run a task twice, even at the same time: one snapshot is committed."""
    pipeline.records = records = WithRival()
    pipeline.add(1)
    winners: list[str] = []
    records.rival = lambda: winners.append(pipeline.snapshot())
    loser = pipeline.snapshot()
    assert [loser] == winners
    assert pipeline.runs.committed(Generation("dag/run")) == loser


def test_an_attempt_never_writes_over_anothers_objects(pipeline: Pipeline) -> None:
    """Readers of the winner's parts do not notice the loser."""
    pipeline.records = records = WithRival()
    pipeline.add(1)
    contents: dict[str, bytes] = {}

    def rival() -> None:
        pipeline.snapshot()
        contents.update(pipeline.objects.objects)

    records.rival = rival
    pipeline.snapshot()
    assert contents.items() <= pipeline.objects.objects.items()


def test_records_without_a_champion_fail_before_anything_is_written() -> None:
    """The message says what to do, and a later retry is not bound by it."""
    pipeline = Pipeline(load=lambda folder, digest: pytest.fail(f"{folder} {digest}"))
    pipeline.add(1)
    with pytest.raises(Permanent, match="train_lenet"):
        pipeline.snapshot()
    assert pipeline.objects.objects == {}
    assert pipeline.runs.committed(Generation("dag/run")) is None


def test_nothing_waiting_needs_no_champion() -> None:
    """A new deployment's scheduled runs are green."""
    pipeline = Pipeline(load=lambda folder, digest: pytest.fail(f"{folder} {digest}"))
    manifest = pipeline.manifest(pipeline.snapshot())
    assert (manifest.parts, manifest.records, manifest.champion) == ((), 0, None)


def test_a_labelled_selection_needs_no_champion_and_pins_none() -> None:
    """It is what the first champion is trained on."""
    pipeline = Pipeline(load=lambda folder, digest: pytest.fail(f"{folder} {digest}"))
    pipeline.add(1, label="seven")
    pipeline.add(2)
    pipeline.add(3, label="no digit at all")
    manifest = pipeline.snapshot(labelled=True)
    assert ids(pipeline, manifest) == [1, 3]
    assert pipeline.manifest(manifest).champion is None


def test_the_champion_is_pinned_in_the_manifest(pipeline: Pipeline, champion: BundleRef) -> None:
    """Its URI and its digest."""
    pipeline.add(1)
    manifest = pipeline.manifest(pipeline.snapshot())
    assert manifest.champion == champion
    assert manifest.selection.champion == champion.digest


def test_a_promotion_after_the_snapshot_changes_nothing_in_it(
    pipeline: Pipeline, champion: BundleRef
) -> None:
    """A retry of the snapshot still gives the bundle that was pinned."""
    pipeline.add(1)
    pipeline.snapshot()
    newer = BundleRef(MODEL, 2, "memory://objects/models/newer", "sha256:newer")
    assert pipeline.models.promote(newer, champion, PROMOTION)
    assert pipeline.manifest(pipeline.snapshot()).champion == champion


def test_stale_records_are_those_of_another_bundle_than_the_pinned_one(
    pipeline: Pipeline, champion: BundleRef
) -> None:
    """What is compared with is looked up once, by the snapshot."""
    for record_id, digest in ((1, champion.digest), (2, "sha256:former")):
        pipeline.add(record_id, prediction={"run": "a/b", "generation": 0, "model": {"digest": digest}})
    assert ids(pipeline, pipeline.snapshot(reclassify="stale")) == [2]


@pytest.mark.parametrize("reclassify", Reclassify)
def test_a_count_is_the_number_of_records_that_a_snapshot_takes(
    pipeline: Pipeline, champion: BundleRef, reclassify: Reclassify
) -> None:
    """Also of predictions of another model, which need the champion to compare with."""
    failure = {"reason": "not_found", "attempts": 5, "next_attempt_at": None, "image_url": url_of("failed")}
    pipeline.add("waiting")
    pipeline.add("failed", prediction_failure=failure)
    for name, digest in (("current", champion.digest), ("old", "sha256:old"), ("older", "sha256:older")):
        pipeline.add(name, prediction={"model": {"digest": digest}, "image": {"url": url_of(name)}})
    counted = pipeline.steps().count(Selection(pipeline.at, reclassify=reclassify))
    assert counted == pipeline.manifest(pipeline.snapshot(reclassify=reclassify)).records
    assert counted == {"never": 1, "failed": 2, "stale": 3, "changed": 1, "all": 5}[reclassify]


def test_a_limit_takes_the_oldest(pipeline: Pipeline) -> None:
    """Records without a creation time are older than all."""
    for record_id, days in ((1, 1), (2, 3), (3, 2)):
        pipeline.add(record_id, created_at=CREATED - timedelta(days=days))
    pipeline.add(4, created_at="yesterday")
    assert sorted(ids(pipeline, pipeline.snapshot(limit=2))) == [2, 4]


def test_the_manifest_is_written_last_under_its_own_digest(pipeline: Pipeline) -> None:
    """So its name identifies the whole snapshot."""
    pipeline.add(1)
    uri = pipeline.snapshot()
    assert list(pipeline.objects.objects)[-1] == uri.removeprefix(pipeline.objects.uri(""))


def test_an_attempt_that_breaks_off_commits_nothing(pipeline: Pipeline) -> None:
    """No reader opens its parts, and the retry succeeds."""
    pipeline.records = records = WithRival()
    pipeline.add(1)

    def breaks() -> None:
        raise ConnectionError("the worker was killed")

    records.rival = breaks
    with pytest.raises(ConnectionError):
        pipeline.snapshot()
    assert pipeline.runs.committed(Generation("dag/run")) is None
    assert ids(pipeline, pipeline.snapshot()) == [1]


def test_a_missing_index_is_warned_of(pipeline: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    """A run over a large collection without it would scan all of it; making it ends the warning."""
    pipeline.add(1)
    pipeline.snapshot("a/1")
    assert "mnist-ops init" in caplog.text
    caplog.clear()
    pipeline.records.ensure_indexes()
    pipeline.snapshot("a/2")
    assert "mnist-ops init" not in caplog.text


def test_a_collection_without_records_is_warned_of_by_its_name(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    """A run of no records may come from a wrong name; the missing index of such a collection is no news."""
    pipeline.snapshot("a/1")
    assert "the collection memory.records does not exist" in caplog.text
    assert "MNIST_OPS_MONGO_COLLECTION" in caplog.text
    assert "mnist-ops init" not in caplog.text
    caplog.clear()
    pipeline.add(1)
    pipeline.snapshot("a/2")
    assert "does not exist" not in caplog.text


def test_counting_warns_of_a_collection_without_records(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    """A preview of a wrong collection is as misleading as a run."""
    assert pipeline.steps().count(Selection(pipeline.at)) == 0
    assert "the collection memory.records does not exist" in caplog.text
