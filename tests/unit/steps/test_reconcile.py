"""Reconcile: every record of a generation is accounted for, or the run is red with the numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

import bson
import pytest

from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.images import FetchFailure
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef, Change, Prediction, RecordHead, WriteReport
from mnist_ops.domain.run_summary import RunFailed
from mnist_ops.steps.artifacts.objects import get_verified
from tests.support.pipeline_in_memory import AT, Pipeline, ReadyToPublish, url_of


class Forgets(InMemoryRecords):
    """Records that lose acknowledged writes: a database that was restored from a backup.

    Attributes:
        lost: whether the writes are gone yet.
    """

    lost = False

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        """The heads, without what the pipeline wrote."""
        if self.lost:
            for document in self._documents.values():
                document.pop("prediction", None)
                document.pop("prediction_failure", None)
        return super().heads(ids)


def mixed(pipeline: Pipeline) -> None:
    """Add a record of nearly every outcome."""
    for number in range(5):
        pipeline.add_digit(number, number)
    pipeline.add("missing")
    pipeline.add("no url", image_url=None)
    pipeline.images.images[url_of("slow")] = FetchFailure(url_of("slow"), Reason.TIMEOUT, "no answer")
    pipeline.add("slow")


def published(pipeline: Pipeline, **selection: object) -> tuple[ReadyToPublish, list[str]]:
    """Return a run with its outcome shards, not reconciled yet."""
    ready = pipeline.ready_to_publish(**selection)  # type: ignore[arg-type]
    return ready, ready.publish()


def edit(pipeline: Pipeline, record_id: object, **values: object) -> None:
    """Change a record as a client of the database would."""
    pipeline.records.insert(pipeline.records.document(record_id) | values)


def test_the_outcomes_add_up_to_the_records_selected(pipeline: Pipeline) -> None:
    """Every outcome is named, zeros too."""
    mixed(pipeline)
    ledger = pipeline.run()
    assert ledger.selected == 8
    assert dict(ledger.outcomes) == {
        "predicted": 5,
        "quarantined": 2,
        "retry_later": 1,
        "held": 0,
        "conflict": 0,
        "gone": 0,
    }
    assert dict(ledger.reasons) == {"not_found": 1, "invalid_url": 1, "timeout": 1}


def test_the_ledger_is_kept(pipeline: Pipeline, champion: BundleRef) -> None:
    """With window, model and what each step cost."""
    mixed(pipeline)
    pipeline.run(until=AT, records_per_part=3)
    (ledger,) = pipeline.runs.ledgers("dag/run")
    assert ledger["_id"] == "dag/run/0"
    assert ledger["selection"]["until"] == AT.isoformat()  # type: ignore[index]
    assert ledger["model"] == {"name": "lenet5", "version": 1, "digest": champion.digest}
    stages: dict[str, dict[str, object]] = ledger["stages"]  # type: ignore[assignment]
    assert {name: stage["records"] for name, stage in stages.items()} == {
        "snapshot": 8,
        "fetch": 8,
        "classify": 8,
        "assess": 8,
        "publish": 8,
        "reconcile": 8,
    }


def test_a_ledger_keeps_no_python_object_that_mongodb_refuses(pipeline: Pipeline) -> None:
    """BSON takes plain values only."""
    mixed(pipeline)
    bson.encode(pipeline.run().document())


def test_an_empty_run_is_green_with_zeros(pipeline: Pipeline) -> None:
    """A day without new records is not a failure."""
    ledger = pipeline.run()
    assert (ledger.selected, ledger.model) == (0, None)
    assert dict(ledger.outcomes) == {str(outcome): 0 for outcome in Outcome}
    assert len(list(pipeline.runs.ledgers())) == 1


def test_a_missing_part_is_red_and_named(pipeline: Pipeline) -> None:
    """A failed publish of one part does not hide behind the others."""
    mixed(pipeline)
    ready, shards = published(pipeline, records_per_part=3)
    with pytest.raises(Permanent, match=r"no outcome of part 1") as raised:
        pipeline.reconcile(ready.manifest, [shards[0], shards[2]])
    assert "selected 8 records" in str(raised.value)


def test_the_ledger_of_a_red_run_is_kept_with_its_numbers(pipeline: Pipeline) -> None:
    """People look at it to see what is missing."""
    mixed(pipeline)
    ready, shards = published(pipeline, records_per_part=3)
    with pytest.raises(Permanent):
        pipeline.reconcile(ready.manifest, shards[1:])
    (ledger,) = pipeline.runs.ledgers()
    assert ledger["missing_parts"] == [0]
    assert "selected 8" in str(ledger["imbalance"])


def test_reconciling_again_replaces_the_ledger_of_its_generation(pipeline: Pipeline) -> None:
    """Once the missing part is there, the run is green."""
    mixed(pipeline)
    ready, shards = published(pipeline, records_per_part=3)
    with pytest.raises(Permanent):
        pipeline.reconcile(ready.manifest, shards[1:])
    pipeline.reconcile(ready.manifest, shards)
    (ledger,) = pipeline.runs.ledgers()
    assert ledger["imbalance"] is None


def test_a_part_that_is_counted_twice_is_red(pipeline: Pipeline) -> None:
    """More outcomes than records is as wrong as fewer."""
    mixed(pipeline)
    ready, shards = published(pipeline)
    with pytest.raises(Permanent, match="selected 8 records"):
        pipeline.reconcile(ready.manifest, [*shards, *shards])


def test_the_outcomes_of_another_run_are_refused(pipeline: Pipeline) -> None:
    """They would add up as well, but they are not about this run."""
    mixed(pipeline)
    mine = pipeline.ready_to_publish("dag/mine")
    _, others = published(pipeline, run="dag/other")
    with pytest.raises(Permanent):
        pipeline.reconcile(mine.manifest, others)


def test_a_lost_write_is_red_and_named(pipeline: Pipeline) -> None:
    """Every outcome that was reported as written is looked up in the database."""
    pipeline.records = records = Forgets()
    mixed(pipeline)
    ready, shards = published(pipeline)
    records.lost = True
    with pytest.raises(Permanent, match=r"8 reported outcomes are not in MongoDB") as raised:
        pipeline.reconcile(ready.manifest, shards)
    assert '{"$numberInt": "0"}' in str(raised.value)


def test_what_later_runs_changed_is_superseded_and_green(pipeline: Pipeline) -> None:
    """A late reconcile does not fail because of later changes."""
    for number in range(5):
        pipeline.add_digit(number, number)
    ready, shards = published(pipeline)
    pipeline.run("dag/later", reclassify="all", limit=2)
    pipeline.records.delete(4)
    ledger = pipeline.reconcile(ready.manifest, shards)
    assert ledger.superseded == 3
    assert ledger.outcomes["predicted"] == 5


def test_a_failure_that_a_later_run_resolved_is_superseded(pipeline: Pipeline) -> None:
    """A prediction removed its failure."""
    mixed(pipeline)
    ready, shards = published(pipeline)
    pipeline.add_digit("slow", 7)
    pipeline.records.insert(
        pipeline.records.document("slow")
        | {"prediction_failure": {"attempts": 1, "next_attempt_at": AT, "image_url": url_of("slow")}}
    )
    pipeline.run("dag/later")
    assert pipeline.reconcile(ready.manifest, shards).superseded == 1


@pytest.mark.parametrize("change", [{"label": "seven"}, {"image_url": url_of("new")}])
def test_a_person_who_edits_a_predicted_record_takes_no_write_away(
    pipeline: Pipeline, change: dict[str, object]
) -> None:
    """The prediction is still there, so it is neither lost nor superseded."""
    pipeline.add_digit(1, 0)
    ready, shards = published(pipeline)
    edit(pipeline, 1, **change)
    ledger = pipeline.reconcile(ready.manifest, shards)
    assert (ledger.superseded, ledger.lost_write_count) == (0, 0)


def test_a_held_run_fails_and_says_how_to_release_it(pipeline: Pipeline) -> None:
    """With the reason first, and the whole command on a line of its own; its ledger is stored."""
    for number in range(10):
        pipeline.add_digit(number, number)
    for number in range(10, 50):
        pipeline.add(number)
    ready, shards = published(pipeline)
    with pytest.raises(RunFailed) as raised:
        pipeline.reconcile(ready.manifest, shards)
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("40 of 50 records failed")
    assert lines[1].startswith("10 predictions are held")
    assert 'mnist-ops runs release-hold dag/run --generation 0 --why "…"' in lines
    (ledger,) = pipeline.runs.ledgers()
    assert ledger["outcomes"]["held"] == raised.value.ledger.outcomes["held"] == 10  # type: ignore[index]


@pytest.mark.parametrize("good", [0, 1])
def test_a_released_run_is_green(pipeline: Pipeline, good: int) -> None:
    """Assess, publish and reconcile again, as clearing the task `assess` does."""
    for number in range(50):
        pipeline.add_digit(number, 0) if number < good else pipeline.add(number)
    ready, _ = published(pipeline)
    pipeline.runs.release_hold(Generation("dag/run"), "ada", "looked at", AT)
    assessment = pipeline.assess(ready.manifest, ready.predictions)
    ledger = pipeline.reconcile(ready.manifest, pipeline.publish(ready.predictions, assessment))
    assert (ledger.outcomes["predicted"], ledger.outcomes["held"]) == (good, 0)
    assert (ledger.held_because, ledger.over_budget) == (None, True)


class RefusesPredictions(InMemoryRecords):
    """Records with a validator that takes no prediction, and perhaps no failure either."""

    takes_failures = True

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write the failures only."""
        refused = {
            place: "code 121: Document failed validation"
            for place, change in enumerate(changes)
            if isinstance(change.outcome, Prediction) or not self.takes_failures
        }
        taken = [change for place, change in enumerate(changes) if place not in refused]
        return WriteReport(super().apply(taken).matched, refused)


@pytest.mark.parametrize("takes_failures", [True, False])
def test_a_run_whose_writes_the_database_refuses_is_red(pipeline: Pipeline, takes_failures: bool) -> None:
    """Assess saw no failure; the budget is compared again with what was written."""
    pipeline.records = records = RefusesPredictions()
    records.takes_failures = takes_failures
    for number in range(50):
        pipeline.add_digit(number, number)
    with pytest.raises(RunFailed) as raised:
        pipeline.run()
    lines = str(raised.value).splitlines()
    assert lines[:2] == [
        "50 of 50 records failed (50 write_refused), more than the budget of 20%",
        "No prediction is held.",
    ]
    assert "Fix the cause: later runs try 50 failed records again." in lines
    assert raised.value.ledger.over_budget
    pipeline.records = fixed = InMemoryRecords()
    for document in records.documents():
        fixed.insert(document)
    assert pipeline.run("dag/later").outcomes["predicted"] == 50


def test_a_run_whose_refused_writes_are_accepted_is_green(pipeline: Pipeline) -> None:
    """Release it, then clear the task `assess`, as its message says; the failures stay."""
    pipeline.records = RefusesPredictions()
    for number in range(50):
        pipeline.add_digit(number, number)
    ready, shards = published(pipeline)
    with pytest.raises(RunFailed):
        pipeline.reconcile(ready.manifest, shards)
    pipeline.runs.release_hold(Generation("dag/run"), "ada", "looked at", AT)
    assessment = pipeline.assess(ready.manifest, ready.predictions)
    ledger = pipeline.reconcile(ready.manifest, pipeline.publish(ready.predictions, assessment))
    assert (ledger.outcomes["retry_later"], ledger.reasons) == (50, {"write_refused": 50})
    assert (ledger.held_because, ledger.over_budget) == (None, True)


def test_a_run_over_its_budget_is_red_without_a_single_prediction(pipeline: Pipeline) -> None:
    """Nothing is held, and still nobody should believe that all is well."""
    for number in range(50):
        pipeline.add(number)
    with pytest.raises(RunFailed, match="50 of 50 records failed") as raised:
        pipeline.run()
    assert raised.value.ledger.outcomes["held"] == 0


def test_a_ledger_counts_published_predictions_by_label_and_those_to_review(pipeline: Pipeline) -> None:
    """A prediction that met a change of its record is not counted: it is not in MongoDB."""
    for number in range(5):
        pipeline.add_digit(number, number)
    manifest = pipeline.snapshot()
    predictions = pipeline.classify(pipeline.fetch(manifest), review_below=1.0)
    edit(pipeline, 4, label="four")
    shards = pipeline.publish(predictions, pipeline.assess(manifest, predictions))
    ledger = pipeline.reconcile(manifest, shards)
    written = [pipeline.records.document(number)["prediction"]["label"] for number in range(4)]
    assert ledger.labels == Counter(written)
    assert ledger.needs_review == 4
    (document,) = pipeline.runs.ledgers()
    assert (document["labels"], document["needs_review"]) == (ledger.labels, 4)


def test_held_predictions_are_not_counted_by_label(pipeline: Pipeline) -> None:
    """They are not in MongoDB."""
    for number in range(50):
        pipeline.add(number) if number else pipeline.add_digit(number, 0)
    ready, shards = published(pipeline)
    with pytest.raises(RunFailed) as raised:
        pipeline.reconcile(ready.manifest, shards)
    assert (raised.value.ledger.labels, raised.value.ledger.needs_review) == ({}, 0)


def test_a_ledger_has_examples_of_each_reason_over_all_parts(pipeline: Pipeline) -> None:
    """Of failed fetches and of images that cannot be decoded; without the query of a URL."""
    for number in range(5):
        pipeline.add(f"missing {number}", image_url=f"https://images.example/{number}.png?sig=secret")
    pipeline.images.images[url_of("text")] = b"text"
    pipeline.add("text")
    ledger = pipeline.run(records_per_part=2)
    assert [example["record_id"] for example in ledger.examples["not_found"]] == [
        f'"missing {number}"' for number in range(3)
    ]
    assert ledger.examples["not_found"][0] == {
        "record_id": '"missing 0"',
        "url": "https://images.example/0.png",
        "detail": "the server has no such image",
    }
    assert [example["url"] for example in ledger.examples["not_an_image"]] == [url_of("text")]
    (document,) = pipeline.runs.ledgers()
    assert document["examples"] == ledger.examples


def test_a_ledger_has_the_ages_of_records_at_publication_over_all_parts(pipeline: Pipeline) -> None:
    """Of the records predicted only; the clock says 13:00 when they are published."""
    published_at = AT + timedelta(hours=1)
    for age in (1, 2, 3, 4):
        pipeline.add_digit(age, created_at=published_at - timedelta(hours=age))
    pipeline.add_digit("of a clock ahead", created_at=published_at + timedelta(hours=1))
    pipeline.add("missing", created_at=published_at - timedelta(days=9))
    age = pipeline.run(records_per_part=2).age
    assert age is not None
    assert (age.records, age.max) == (5, 4 * 3_600)
    assert age.p50 == pytest.approx(2 * 3_600, rel=0.03)
    assert age.p95 == pytest.approx(4 * 3_600, rel=0.03)
    (ledger,) = pipeline.runs.ledgers()
    assert ledger["age_s"] == age.document()


def test_records_that_had_a_prediction_before_have_no_age(pipeline: Pipeline) -> None:
    """To classify an old record again says nothing of how long new ones wait."""
    pipeline.add_digit(1)
    pipeline.run("dag/first")
    ledger = pipeline.run("dag/again", reclassify="all")
    assert (ledger.outcomes["predicted"], ledger.age) == (1, None)
    assert ledger.document()["age_s"] is None


def test_a_run_that_misses_the_freshness_objective_warns(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    """Its records were 25 hours old; a run over a window of the past is not held to the objective."""
    pipeline.add_digit(1)
    ready = pipeline.ready_to_publish()
    steps = pipeline.steps(freshness_s=3_600.0)
    ledger = steps.reconcile(ready.manifest, ready.publish())
    assert ledger.freshness() == {"objective_s": 3_600, "met": False}
    levels = [record.levelname for record in caplog.records if record.message.startswith("late: ")]
    assert levels == ["WARNING"]
    pipeline.add_digit(2)
    backfill = pipeline.ready_to_publish("dag/backfill", since=AT - timedelta(days=9))
    ledger = steps.reconcile(backfill.manifest, backfill.publish())
    assert (ledger.outcomes["predicted"], ledger.freshness()) == (1, None)


def test_a_damaged_outcome_shard_is_refused(pipeline: Pipeline) -> None:
    """Numbers are not taken from a damaged object."""
    mixed(pipeline)
    ready, shards = published(pipeline)
    pipeline.objects.objects[shards[0].removeprefix(pipeline.objects.uri(""))] += b"\0"
    with pytest.raises(Damaged, match="sha256"):
        pipeline.reconcile(ready.manifest, shards)


def test_everything_that_a_run_leaves_is_named_by_its_digest(pipeline: Pipeline) -> None:
    """Apart from the parts, whose digests the manifest holds."""
    mixed(pipeline)
    pipeline.run()
    for key in pipeline.objects.objects:
        if not key.startswith("models/") and not key.endswith(".bson.gz"):
            get_verified(pipeline.objects, pipeline.objects.uri(key))


def test_ledgers_come_oldest_first_and_by_run(pipeline: Pipeline) -> None:
    """The command line lists them so."""
    for run in ("b/1", "a/2", "b/3"):
        pipeline.run(run)
        pipeline.at += timedelta(hours=1)
    assert [ledger["run"] for ledger in pipeline.runs.ledgers()] == ["b/1", "a/2", "b/3"]
    assert [ledger["run"] for ledger in pipeline.runs.ledgers("b/")] == ["b/1", "b/3"]
