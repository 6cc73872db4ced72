"""The records of a run are read back from its shards, on every object store."""

from collections import Counter

import pytest

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.domain.errors import ObjectMissing
from mnist_ops.domain.keys import Generation
from mnist_ops.steps.run_page import Position, RecordFilter
from mnist_ops.steps.run_records import RunRecord
from tests.support.small_runs import EVERYTHING_AGAIN, SmallRuns

RUN = Generation("dag/run")


@pytest.fixture
def runs(objects) -> SmallRuns:
    """Ten records, in parts of four; one has no image, one no URL."""
    runs = SmallRuns(objects, InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    runs.images.images.pop("https://images.example/3.png")
    runs.records.insert({**runs.document(5), "image_url": 5})
    return runs


def records_of(runs: SmallRuns, generation: Generation = RUN) -> list[RunRecord]:
    """What the run's ledger says of each record."""
    (ledger,) = runs.runs.ledgers(f"{generation.id}")
    return list(runs.steps().run_records(generation, ledger["refers_to"]))


def test_every_record_of_a_run_is_listed_in_order(runs) -> None:
    """With its outcome, its URL, and its prediction or the reason why there is none."""
    ledger = runs.run(RUN)
    records = records_of(runs)
    assert [record.record_id for record in records] == [f'{{"$numberInt": "{n}"}}' for n in range(10)]
    assert dict(Counter(record.outcome for record in records)) == {"predicted": 8, "quarantined": 2}
    assert Counter(record.reason for record in records if record.reason) == ledger.reasons
    first, missing, without_url = records[0], records[3], records[5]
    assert first == RunRecord(
        '{"$numberInt": "0"}', "predicted", None, None, "https://images.example/0.png", "seven", 1.0, None
    )
    assert (missing.reason, missing.url) == ("not_found", "https://images.example/3.png")
    assert missing.detail
    assert (missing.label, missing.confidence) == (None, None)
    assert (without_url.reason, without_url.url) == ("invalid_url", None)


def test_a_page_of_the_records_is_read_in_ranges(runs) -> None:
    """With the images; and one record's image is found among all parts."""
    runs.run(RUN)
    (ledger,) = runs.runs.ledgers(RUN.id)
    page = runs.steps().run_page(ledger, RecordFilter(outcome="predicted"), Position(), 100)
    images = [runs.images.images[one.record.url] for one in page.records]
    assert [one.payload for one in page.records] == images
    assert len(images) == 8
    found = runs.steps().image_of_record("dag/run", 0, '{"$numberInt": "9"}')
    assert found is not None
    assert found.payload == images[-1]


def test_only_the_generation_that_is_asked_for_is_listed(runs) -> None:
    """Though its image shards refer to those of an earlier run."""
    runs.run(RUN)
    runs.run(Generation("dag/run", 1), **EVERYTHING_AGAIN, limit=3)
    assert len(records_of(runs, Generation("dag/run", 1))) == 3
    assert len(records_of(runs)) == 10


def test_a_shard_that_is_gone_is_named() -> None:
    """It is not taken for a run without records."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.records.insert(runs.document(0))
    ledger = runs.run(RUN)
    (uri,) = (uri for uri in ledger.refers_to if "/outcomes/" in uri)
    runs.objects.objects.clear()
    with pytest.raises(ObjectMissing, match=uri):
        records_of(runs)
