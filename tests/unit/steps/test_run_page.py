"""Pages of a run's records, read from its shards in ranges, with filters and images."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.domain.errors import Damaged, ObjectMissing, UsageError
from mnist_ops.domain.images import Validators
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.run_summary import RunFailed
from mnist_ops.steps import run_page as module
from mnist_ops.steps import stored_images
from mnist_ops.steps.run_page import Position, RecordFilter, RunPage
from mnist_ops.vision.inference.classifier import Predictions
from tests.support.small_runs import EVERYTHING_AGAIN, Seven, SmallRuns

RUN = Generation("dag/run")
ALL = RecordFilter()


class SevenOrOne(Seven):
    """A model that takes pictures with much ink for an uncertain one, and others for a certain seven."""

    def predict(self, images: NDArray[np.uint8]) -> Predictions:
        """Probabilities that depend on the image alone."""
        probabilities = np.zeros((len(images), 10), np.float32)
        inked = images.reshape(len(images), -1).mean(axis=1) > 33
        probabilities[inked, 1], probabilities[inked, 7] = 0.625, 0.375
        probabilities[~inked, 7] = 1
        nothing = np.zeros(len(images), np.float32)
        return Predictions(probabilities, nothing, nothing > 0)


@pytest.fixture
def runs() -> SmallRuns:
    """Ten records in parts of four: 3 has no image, 5 no URL, 8 shows the image of 0, 9 one that is none."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords(), model=SevenOrOne())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    runs.images.images.pop("https://images.example/3.png")
    runs.records.insert({**runs.document(5), "image_url": 5})
    for number in (2, 8):
        runs.images.images[f"https://images.example/{number}.png"] = image(runs, 0)
    runs.images.images["https://images.example/9.png"] = b"<html>not here</html>"
    return runs


def image(runs: SmallRuns, number: int) -> bytes:
    """What is behind a record's URL."""
    return runs.images.images[f"https://images.example/{number}.png"]


def page(runs: SmallRuns, wanted: RecordFilter = ALL, start: str = "0-0", limit: int = 100) -> RunPage:
    """A page of the newest generation."""
    *_, ledger = runs.runs.ledgers()
    return runs.steps().run_page(ledger, wanted, Position.of(start), limit)


def numbers(page: RunPage) -> list[int]:
    """The records of a page, by the numbers in their ids."""
    return [int(one.record.record_id.split('"')[3]) for one in page.records]


def test_a_page_has_the_records_with_probabilities_and_images(runs) -> None:
    """In the order of the snapshot; a record without an image has its reason."""
    runs.run(RUN)
    found = page(runs)
    assert numbers(found) == [*range(10)]
    assert (found.searched, found.following) == (10, None)
    payloads = [one.payload for one in found.records]
    assert payloads == [None if number in (3, 5) else image(runs, number) for number in range(10)]
    assert (found.records[3].record.reason, found.records[3].probabilities) == ("not_found", {})
    assert found.records[9].record.reason == "not_an_image"
    assert found.records[0].probabilities[found.records[0].record.label] == found.records[0].record.confidence


@pytest.mark.parametrize("limit", [1, 3, 4, 7])
def test_pages_follow_each_other_over_the_parts(runs, limit) -> None:
    """Every record is on one page, whatever the size of the pages."""
    runs.run(RUN)
    first = page(runs, limit=limit)
    seen, following = numbers(first), first.following
    while following is not None:
        found = page(runs, start=str(following), limit=limit)
        assert len(found.records) <= limit
        seen += numbers(found)
        following = found.following
    assert seen == [*range(10)]


FILTERS = {
    "outcome": RecordFilter(outcome="quarantined"),
    "reason": RecordFilter(reason="not_found"),
    "label": RecordFilter(label="one"),
    "confidence at least": RecordFilter(at_least=0.625),
    "confidence below": RecordFilter(below=0.9),
    "review": RecordFilter(needs_review=True),
    "label and outcome": RecordFilter(label="seven", outcome="predicted"),
    "a label that the bundle does not know": RecordFilter(label="cat"),
}


def takes(wanted: RecordFilter, one: module.PicturedRecord) -> bool:
    """The filter, record by record."""
    record = one.record
    return (
        wanted.outcome in (None, record.outcome)
        and wanted.reason in (None, record.reason)
        and wanted.label in (None, record.label)
        and (wanted.at_least is None or (record.confidence or -1) >= wanted.at_least)
        and (wanted.below is None or (record.confidence or 2) < wanted.below)
        and (not wanted.needs_review or record.review_reason is not None)
    )


@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
def test_a_filter_takes_what_it_says(runs, wanted) -> None:
    """The same records as looking at each one."""
    runs.run(RUN)
    expected = [n for n, one in enumerate(page(runs).records) if takes(wanted, one)]
    assert numbers(page(runs, wanted)) == expected
    assert len(expected) < 10


def test_the_filters_of_these_tests_take_something(runs) -> None:
    """Otherwise they would show nothing."""
    runs.run(RUN)
    counts = {name: len(page(runs, wanted).records) for name, wanted in FILTERS.items()}
    assert counts.pop("a label that the bundle does not know") == 0
    assert all(counts.values()), counts


def test_a_search_stops_after_a_number_of_records_and_goes_on_from_there(runs, monkeypatch) -> None:
    """So that a filter that takes nearly nothing costs a bounded time."""
    monkeypatch.setattr(module, "_ROWS_SEARCHED", 3)
    runs.run(RUN)
    wanted, start, searched, seen = RecordFilter(below=0.1), Position(), [], []
    for _ in range(5):
        found = page(runs, wanted, str(start))
        searched.append(found.searched)
        seen += numbers(found)
        if found.following is None:
            break
        start = found.following
    assert (sum(searched), max(searched), seen) == (10, 3, [])


def test_parts_whose_counts_say_that_they_have_none_are_not_read(runs, monkeypatch) -> None:
    """So that the one failure of a large run is on the first page of its reason."""
    monkeypatch.setattr(module, "_ROWS_SEARCHED", 2)
    runs.run(RUN)
    found = page(runs, RecordFilter(reason="not_an_image"))
    assert (numbers(found), found.searched) == ([9], 10)


def test_a_search_opens_a_number_of_parts_and_goes_on_from_there(runs, monkeypatch) -> None:
    """Though their counts say that they have none."""
    monkeypatch.setattr(module, "_SHARDS_OPENED", 2)
    runs.run(RUN)
    found = page(runs, RecordFilter(reason="timeout"))
    assert (found.searched, found.following) == (8, Position(2))
    assert page(runs, RecordFilter(reason="timeout"), "2-0").following is None


@pytest.mark.parametrize(
    "wanted", [RecordFilter(label="one"), RecordFilter(outcome="held"), RecordFilter(needs_review=True)]
)
def test_held_predictions_are_found_though_no_part_counts_them(wanted) -> None:
    """The counts are those of what was published."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords(), model=SevenOrOne())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    for number in (3, 4, 5, 6):
        runs.images.images.pop(f"https://images.example/{number}.png")
    manifest, steps = runs.snapshot(RUN), runs.steps(failure_budget_from=2)
    shards = runs.classify(runs.fetch(manifest))
    assessment = steps.assess(manifest, shards)
    with pytest.raises(RunFailed):
        runs.reconcile(manifest, [steps.publish(uri, assessment) for uri in shards])
    found = page(runs, wanted)
    assert found.records
    assert all(takes(wanted, one) for one in found.records)


def test_an_image_that_an_earlier_run_holds_is_shown(runs) -> None:
    """A server that sent it with validators says that it has not changed, so it is not stored again."""
    runs.images.validators = {"https://images.example/1.png": Validators('"1"', None)}
    runs.run(RUN)
    runs.run(Generation("dag/run", 1), **EVERYTHING_AGAIN)
    stored = [key for key, data in runs.objects.objects.items() if image(runs, 1) in data]
    assert [key.rpartition("/")[0] for key in stored] == ["images/dag/run/0"]
    assert page(runs).records[1].payload == image(runs, 1)


def test_images_that_are_deleted_leave_the_records(runs) -> None:
    """Garbage collection may have deleted an image shard."""
    runs.run(RUN)
    for key in [key for key in runs.objects.objects if key.startswith("images/")]:
        runs.objects.delete([key])
    found = page(runs)
    assert numbers(found) == [*range(10)]
    assert {one.payload for one in found.records} == {None}


def test_an_outcome_shard_that_is_deleted_is_named(runs) -> None:
    """It is not taken for an empty part."""
    runs.run(RUN)
    (key, *_) = [key for key in runs.objects.objects if key.startswith("outcomes/")]
    runs.objects.delete([key])
    with pytest.raises(ObjectMissing, match=key):
        page(runs)


def test_an_image_with_other_bytes_than_were_fetched_is_refused(runs, monkeypatch) -> None:
    """The digest of the whole shard is not looked at, so that of each image is."""
    monkeypatch.setattr("mnist_ops.steps.fetch.sha256_hex", lambda _: "0" * 64)
    runs.run(RUN)
    with pytest.raises(Damaged, match="not what was fetched"):
        page(runs)


def test_only_the_row_groups_of_a_page_are_read(monkeypatch) -> None:
    """A page of a part with many images reads a small share of its bytes."""
    monkeypatch.setattr("mnist_ops.steps.artifacts.shards.ROWS_PER_GROUP", 5)
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(100)))
    noise = np.random.default_rng(0)
    for url in runs.images.images:
        runs.images.images[url] += noise.bytes(20_000)
    manifest = runs.snapshot(RUN, records_per_part=100)
    runs.reconcile(manifest, runs.publish(manifest, runs.classify(runs.fetch(manifest))))
    before = runs.objects.moved["received"]
    assert len(page(runs, limit=5).records) == 5
    read = runs.objects.moved["received"] - before
    stored = sum(map(len, runs.objects.objects.values()))
    assert 5 * 20_000 < read < stored / 6


def test_a_page_stops_reading_images_at_a_number_of_bytes(runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of further row groups are left out, which the page says; small ones are still read."""
    monkeypatch.setattr("mnist_ops.steps.artifacts.shards.ROWS_PER_GROUP", 1)
    runs.images.images["https://images.example/1.png"] += bytes(range(256)) * 400
    monkeypatch.setattr(module, "_IMAGE_BYTES_READ", 20_000)
    runs.run(RUN)
    whole = page(runs)
    found = {
        number: (one.left_out, one.payload is None)
        for number, one in zip(numbers(whole), whole.records, strict=True)
    }
    assert found[0] == found[2] == found[4] == (False, False)
    assert found[1] == (True, True)
    assert found[3] == (False, True)


def test_a_position_after_the_end_of_a_part_is_the_beginning_of_the_next(runs) -> None:
    """It comes from an address that anybody may type."""
    runs.run(RUN)
    found = page(runs, start="1-99")
    assert (numbers(found), found.searched) == ([8, 9], 2)


def test_a_position_that_is_none_is_refused() -> None:
    """It comes from an address that anybody may type."""
    for text in ("", "1", "1-", "-1-0", "1-x", "9" * 12 + "-0"):
        with pytest.raises(UsageError, match="not a position"):
            Position.of(text)


def test_the_image_of_one_record_is_found_in_its_run(runs) -> None:
    """Also without its generation, and where an earlier row of another record has the bytes."""
    runs.run(RUN)
    find = runs.steps().image_of_record
    for number, generation in itertools.product((0, 8), (0, None)):
        found = find("dag/run", generation, f'{{"$numberInt": "{number}"}}')
        assert found is not None
        assert found.payload == image(runs, 0)
    missing = find("dag/run", 0, '{"$numberInt": "3"}')
    assert missing is not None
    assert (missing.payload, missing.reason) == (None, "not_found")


def test_the_image_of_a_record_is_looked_for_in_50_shards_at_most(
    runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here in one of three: what is not in it has no image, and the page says why."""
    monkeypatch.setattr(stored_images, "_SHARDS_SEARCHED", 1)
    runs.run(RUN)
    first, last = '{"$numberInt": "0"}', '{"$numberInt": "9"}'
    found = runs.steps().images_of_records("dag/run", 0, [first, last])
    assert found[last].detail is None or "not looked for further" not in found[last].detail
    assert found[first].payload is None
    assert found[first].detail == (
        "It is not in 1 of the run's 3 image shards, and is not looked for further."
    )


@pytest.mark.parametrize(
    "run", ["dag/other", "dag", "dag/run/0", "/run", "dag/", "", None, 7, "dag/" + "x" * 600, "dag/\n"]
)
def test_a_run_that_has_no_shards_has_no_image(runs, run) -> None:
    """Other programs may have written any run into a record."""
    runs.run(RUN)
    assert runs.steps().image_of_record(run, 0, '{"$numberInt": "0"}') is None
