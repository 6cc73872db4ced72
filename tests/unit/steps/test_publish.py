"""Publish: predictions and failures into the records, by compare-and-set."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import numpy as np
import pytest

from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.mongo.bson_documents import Document
from mnist_ops.domain.errors import Damaged, OutcomeUnknown, Permanent, Transient
from mnist_ops.domain.images import FetchFailure
from mnist_ops.domain.keys import Generation, digest_in_name, sha256_hex
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.outcomes import FailureBudget
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef, Change, Prediction, WriteReport
from mnist_ops.local import sample_digits
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.vision.inference.classifier import Classifier
from tests.support.pipeline_in_memory import AT, MODEL, PROMOTION, Pipeline, png_of, url_of


class LosesReplies(InMemoryRecords):
    """Records whose replies to writes are lost.

    Attributes:
        losses: how many replies are lost yet.
        applied: whether the writes themselves arrive.
        sent: how many bulks were sent.
    """

    def __init__(self, losses: int, *, applied: bool) -> None:
        super().__init__()
        self.losses = losses
        self.applied = applied
        self.sent = 0

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write, and lose the reply; or lose the request."""
        self.sent += 1
        if not self.losses:
            return super().apply(changes)
        self.losses -= 1
        if self.applied:
            super().apply(changes)
        raise OutcomeUnknown("the connection was reset")


class Refuses(InMemoryRecords):
    """Records with a validator that refuses some of them.

    Attributes:
        ids: the ids of the records that take no prediction.
        failures_too: whether they take no failure either.
    """

    def __init__(self, *ids: object, failures_too: bool = False) -> None:
        super().__init__()
        self.ids = ids
        self.failures_too = failures_too

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write what is not refused."""
        refused = {
            place: "code 121: Document failed validation"
            for place, change in enumerate(changes)
            if change.head.id in self.ids and (self.failures_too or isinstance(change.outcome, Prediction))
        }
        taken = [change for place, change in enumerate(changes) if place not in refused]
        return WriteReport(super().apply(taken).matched, refused)


def named(record_id: int) -> str:
    """Return how a shard names a record."""
    return f'{{"$numberInt": "{record_id}"}}'


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Return an action that does something only the first time."""
    actions = [action]

    def act() -> None:
        if actions:
            actions.pop()()

    return act


def edit(pipeline: Pipeline, record_id: object, **values: object) -> None:
    """Change a record as a client of the database would."""
    pipeline.records.insert(pipeline.records.document(record_id) | values)


def pick(rows: dict[str, dict[str, object]]) -> dict[str, object]:
    """Return the outcome of every record."""
    return {record_id: row["outcome"] for record_id, row in rows.items()}


# --- what is written


def test_a_waiting_record_gets_a_prediction_with_all_its_provenance(
    pipeline: Pipeline, champion: BundleRef
) -> None:
    """Bundle, image, run, generation, snapshot and time."""
    pipeline.add_digit(1, 0)
    ready = pipeline.ready_to_publish("dag/run", 3)
    assert ready.outcome_of(named(1))["outcome"] == "predicted"
    prediction = pipeline.records.document(1)["prediction"]
    assert isinstance(prediction, dict)
    assert prediction["model"] == {"name": "lenet5", "version": 1, "digest": champion.digest}
    assert prediction["image"] == {"url": url_of(1), "sha256": sha256_hex(png_of(0))}
    assert (prediction["run"], prediction["generation"], prediction["at"]) == ("dag/run", 3, AT)
    assert prediction["snapshot"] == f"sha256:{digest_in_name(ready.manifest)}"


def test_the_label_is_the_argmax_through_the_bundles_table(pipeline: Pipeline) -> None:
    """In words, beside its index and its probability."""
    pipeline.add_digit(1, 0)
    pipeline.ready_to_publish().publish()
    prediction: Document = pipeline.records.document(1)["prediction"]  # type: ignore[assignment]
    probabilities: dict[str, float] = prediction["probabilities"]  # type: ignore[assignment]
    assert list(probabilities) == list(DIGITS.names)
    assert prediction["label"] == max(probabilities, key=probabilities.__getitem__)
    assert prediction["label"] == DIGITS.name(prediction["index"])  # type: ignore[arg-type]
    assert prediction["confidence"] == max(probabilities.values())
    assert abs(sum(probabilities.values()) - 1) <= 1e-6


def test_a_record_says_whether_and_why_it_needs_review(pipeline: Pipeline, classifier: Classifier) -> None:
    """A clear digit does not; noise does, whatever class it was given."""
    predictions = classifier.predict(sample_digits.load("test")[0][:100])
    clear = (predictions.probabilities.max(axis=1) >= 0.9) & ~predictions.not_a_digit
    pipeline.add_digit(1, int(clear.argmax()))
    pipeline.add(2)
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    pipeline.images.images[url_of(2)] = sample_digits.png(noise)
    pipeline.ready_to_publish().publish()
    digit, other = (pipeline.records.document(record_id)["prediction"] for record_id in (1, 2))
    assert isinstance(digit, dict)
    assert isinstance(other, dict)
    assert (digit["needs_review"], digit["review_reason"]) == (False, None)
    assert (other["needs_review"], other["review_reason"]) == (True, "not_a_digit")


def test_nothing_but_the_pipelines_own_fields_is_changed(pipeline: Pipeline) -> None:
    """Whatever else people keep in a record, in its order."""
    pipeline.add_digit(1, 0, nested={"b": 1, "a": [None, {"$x": 1}]}, label=None)
    before = pipeline.records.document(1)
    pipeline.ready_to_publish().publish()
    after = pipeline.records.document(1)
    after.pop("prediction")
    assert list(after.items()) == list(before.items())


def test_a_record_outside_the_selection_is_not_touched(pipeline: Pipeline) -> None:
    """Not even read for writing."""
    pipeline.add_digit(1, 0)
    pipeline.add_digit(2, 1, created_at=AT + timedelta(days=1))
    before = pipeline.records.document(2)
    pipeline.ready_to_publish(until=AT).publish()
    assert pipeline.records.document(2) == before


def test_publishing_three_times_gives_the_same_database_and_outcomes(pipeline: Pipeline) -> None:
    """Retries, redeliveries and late attempts are harmless."""
    for number in range(4):
        pipeline.add_digit(number, number)
    pipeline.add(4)
    pipeline.images.images[url_of(5)] = FetchFailure(url_of(5), Reason.TIMEOUT, "no answer")
    pipeline.add(5)
    ready = pipeline.ready_to_publish()
    first = pick(pipeline.outcomes(ready.publish()))
    database = pipeline.records.documents()
    for _ in range(2):
        assert pick(pipeline.outcomes(ready.publish())) == first
        assert pipeline.records.documents() == database
    assert sorted(first.values()) == ["predicted"] * 4 + ["quarantined", "retry_later"]  # type: ignore[type-var]


def test_a_whole_rerun_of_a_generation_changes_no_field(pipeline: Pipeline) -> None:
    """From the snapshot on: it is kept, and so is everything that was made from it."""
    for number in range(3):
        pipeline.add_digit(number, number)
    pipeline.add(3)
    first = pipeline.run()
    database = pipeline.records.documents()
    again = pipeline.run()
    assert pipeline.records.documents() == database
    assert again.outcomes == first.outcomes


def test_an_outcome_shard_has_a_row_a_record_in_the_parts_order(pipeline: Pipeline) -> None:
    """Written, failed or in conflict."""
    pipeline.add(1)
    pipeline.add_digit(2, 0)
    pipeline.add_digit(3, 1)
    ready = pipeline.ready_to_publish()
    edit(pipeline, 3, label="seven")
    rows = pipeline.outcomes(ready.publish())
    assert list(rows) == [named(1), named(2), named(3)]
    assert list(pick(rows).values()) == ["quarantined", "predicted", "conflict"]


# --- what happens meanwhile


@pytest.mark.parametrize("label", ["seven", 7, "no digit", ""])
def test_a_human_label_set_in_mid_run_is_kept_without_a_prediction(pipeline: Pipeline, label: object) -> None:
    """The prediction comes too late."""
    pipeline.add_digit(1, 0)
    pipeline.records.before_write = once(partial(edit, pipeline, 1, label=label))
    assert pipeline.ready_to_publish().outcome_of(named(1))["outcome"] == "conflict"
    document = pipeline.records.document(1)
    assert document["label"] == label
    assert "prediction" not in document


def test_a_stale_prediction_is_refused_where_the_url_was_edited(pipeline: Pipeline) -> None:
    """It is of another image."""
    pipeline.add_digit(1, 0)
    pipeline.records.before_write = once(partial(edit, pipeline, 1, image_url=url_of("new")))
    assert pipeline.ready_to_publish().outcome_of(named(1))["outcome"] == "conflict"
    assert "prediction" not in pipeline.records.document(1)


def test_a_deleted_record_is_not_resurrected(pipeline: Pipeline) -> None:
    """It stays deleted."""
    pipeline.add_digit(1, 0)
    pipeline.add_digit(2, 1)
    pipeline.records.before_write = once(lambda: pipeline.records.delete(1))
    assert pick(pipeline.outcomes(pipeline.ready_to_publish().publish())) == {
        named(1): "gone",
        named(2): "predicted",
    }
    assert [document["_id"] for document in pipeline.records.documents()] == [2]


def test_of_two_runs_over_one_record_the_first_to_write_wins(pipeline: Pipeline) -> None:
    """The other counts a conflict, and the prediction is whole."""
    pipeline.add_digit(1, 0)
    one, other = pipeline.ready_to_publish("dag/one"), pipeline.ready_to_publish("dag/other")
    assert other.outcome_of(named(1))["outcome"] == "predicted"
    database = pipeline.records.documents()
    assert one.outcome_of(named(1))["outcome"] == "conflict"
    assert pipeline.records.documents() == database
    assert database[0]["prediction"]["run"] == "dag/other"  # type: ignore[index]


def test_two_generations_of_a_run_do_not_take_each_other_for_themselves(pipeline: Pipeline) -> None:
    """The run is the same, but the selection is not."""
    pipeline.add_digit(1, 0)
    one, other = pipeline.ready_to_publish(generation=0), pipeline.ready_to_publish(generation=1)
    assert other.outcome_of(named(1))["outcome"] == "predicted"
    assert one.outcome_of(named(1))["outcome"] == "conflict"


def test_a_late_attempt_changes_nothing(pipeline: Pipeline) -> None:
    """Its run is over, and a later one has reclassified the record."""
    pipeline.add_digit(1, 0)
    late = pipeline.ready_to_publish("dag/late")
    late.publish()
    pipeline.run("dag/later", reclassify="all")
    database = pipeline.records.documents()
    assert late.outcome_of(named(1))["outcome"] == "conflict"
    assert pipeline.records.documents() == database


def test_of_two_failures_at_once_one_is_counted(pipeline: Pipeline) -> None:
    """Attempts are limited: two runs at the same time count as one."""
    pipeline.images.images[url_of(1)] = FetchFailure(url_of(1), Reason.TIMEOUT, "no answer")
    pipeline.add(1)
    one, other = pipeline.ready_to_publish("dag/one"), pipeline.ready_to_publish("dag/other")
    assert other.outcome_of(named(1))["outcome"] == "retry_later"
    assert one.outcome_of(named(1))["outcome"] == "conflict"
    failure: Document = pipeline.records.document(1)["prediction_failure"]  # type: ignore[assignment]
    assert (failure["run"], failure["attempts"]) == ("dag/other", 1)


# --- former predictions


def test_a_reclassification_pushes_the_former_prediction_onto_the_history(pipeline: Pipeline) -> None:
    """As it was, newest first."""
    pipeline.add_digit(1, 0)
    former = []
    for number in range(3):
        pipeline.run(f"dag/{number}", reclassify="all")
        former.insert(0, pipeline.records.document(1)["prediction"])
    document = pipeline.records.document(1)
    assert document["prediction"] == former[0]
    assert document["prediction_history"] == former[1:]


def test_the_history_holds_at_most_five(pipeline: Pipeline) -> None:
    """A record does not grow for ever."""
    pipeline.add_digit(1, 0)
    for number in range(8):
        pipeline.run(f"dag/{number}", reclassify="all")
    history: list[Document] = pipeline.records.document(1)["prediction_history"]  # type: ignore[assignment]
    assert [entry["run"] for entry in history] == [f"dag/{number}" for number in (6, 5, 4, 3, 2)]


def test_a_first_prediction_makes_no_history(pipeline: Pipeline) -> None:
    """There is no former one."""
    pipeline.add_digit(1, 0)
    pipeline.run()
    assert "prediction_history" not in pipeline.records.document(1)


# --- failures


def test_a_failure_is_written_with_its_reason_and_attempts(pipeline: Pipeline) -> None:
    """And with when it is tried again."""
    url = url_of(1)
    pipeline.images.images[url] = FetchFailure(url, Reason.TIMEOUT, "no answer within 20 s")
    pipeline.add(1)
    assert pipeline.ready_to_publish().outcome_of(named(1)) == {
        "record_id": named(1),
        "outcome": "retry_later",
        "reason": "timeout",
        "detail": "no answer within 20 s",
    }
    assert pipeline.records.document(1)["prediction_failure"] == {
        "reason": "timeout",
        "detail": "no answer within 20 s",
        "image_url": url,
        "attempts": 1,
        "first_at": AT,
        "last_at": AT,
        "next_attempt_at": AT + timedelta(minutes=15),
        "permanent": False,
        "run": "dag/run",
    }


def test_attempts_count_over_the_runs_and_end(pipeline: Pipeline) -> None:
    """Five, then the record is quarantined and no run takes it any more."""
    url = url_of(1)
    pipeline.images.images[url] = FetchFailure(url, Reason.SERVER_ERROR, "500")
    pipeline.add(1)
    outcomes = []
    for number in range(7):
        outcomes.append(pipeline.run(f"dag/{number}").outcomes)
        pipeline.at += timedelta(days=2)
    assert [o["retry_later"] for o in outcomes] == [1, 1, 1, 1, 0, 0, 0]
    assert [o["quarantined"] for o in outcomes] == [0, 0, 0, 0, 1, 0, 0]
    failure: Document = pipeline.records.document(1)["prediction_failure"]  # type: ignore[assignment]
    assert (failure["attempts"], failure["first_at"]) == (5, AT)


def test_a_servers_retry_after_reaches_the_record(pipeline: Pipeline) -> None:
    """Through both shards."""
    url = url_of(1)
    pipeline.images.images[url] = FetchFailure(url, Reason.RATE_LIMITED, "429", 429, retry_after_s=7_200.0)
    pipeline.add(1)
    pipeline.run()
    failure: Document = pipeline.records.document(1)["prediction_failure"]  # type: ignore[assignment]
    assert failure["next_attempt_at"] == AT + timedelta(hours=2)


def test_a_failure_keeps_the_old_prediction(pipeline: Pipeline) -> None:
    """A 404 today does not make yesterday's label wrong."""
    pipeline.add_digit(1, 0)
    pipeline.run("dag/one")
    prediction = pipeline.records.document(1)["prediction"]
    pipeline.images.images.clear()
    assert pipeline.run("dag/two", reclassify="all").outcomes["quarantined"] == 1
    document = pipeline.records.document(1)
    assert document["prediction"] == prediction
    assert document["prediction_failure"]["reason"] == "not_found"  # type: ignore[index]


def test_a_success_takes_the_failure_away(pipeline: Pipeline) -> None:
    """In the same write."""
    url = url_of(1)
    pipeline.images.images[url] = FetchFailure(url, Reason.TIMEOUT, "no answer")
    pipeline.add(1)
    pipeline.run("dag/one")
    pipeline.add_digit(2, 0)
    pipeline.images.images[url] = png_of(0)
    assert pipeline.run("dag/two").outcomes["predicted"] == 2
    assert "prediction_failure" not in pipeline.records.document(1)


def test_an_edited_url_resets_the_attempts(pipeline: Pipeline) -> None:
    """A corrected record is tried at once, and as often as a new one."""
    pipeline.add(1)
    pipeline.run("dag/one")
    url = url_of("corrected")
    edit(pipeline, 1, image_url=url)
    pipeline.images.images[url] = FetchFailure(url, Reason.TIMEOUT, "no answer")
    assert pipeline.run("dag/two").outcomes["retry_later"] == 1
    failure: Document = pipeline.records.document(1)["prediction_failure"]  # type: ignore[assignment]
    assert (failure["attempts"], failure["image_url"]) == (1, url)


def test_a_record_without_a_date_ends_once(pipeline: Pipeline) -> None:
    """The next run does not take it until the date is corrected."""
    pipeline.add_digit(1, 0, created_at="yesterday")
    assert pipeline.run("dag/one").reasons == {"bad_created_at": 1}
    assert pipeline.run("dag/two").selected == 0
    edit(pipeline, 1, created_at=AT)
    assert pipeline.run("dag/three").outcomes["predicted"] == 1


# --- held runs


def held(pipeline: Pipeline) -> tuple[str, list[str]]:
    """Return manifest and prediction shards of a run that will be held: one record in five is good."""
    for number in range(10):
        pipeline.add_digit(number, number)
    for number in range(10, 50):
        pipeline.add(number)
    manifest = pipeline.snapshot()
    return manifest, pipeline.predictions_of(manifest)


def test_a_held_run_writes_its_failures_only(pipeline: Pipeline) -> None:
    """Predictions wait for somebody to look."""
    manifest, predictions = held(pipeline)
    shards = pipeline.publish(predictions, pipeline.assess(manifest, predictions))
    outcomes = list(pick(pipeline.outcomes(shards)).values())
    assert outcomes == ["held"] * 10 + ["retry_later"] * 40
    documents = pipeline.records.documents()
    assert not any("prediction" in document for document in documents)
    assert all("prediction_failure" in document for document in documents[10:])
    with open_shard(pipeline.objects, shards[0], OUTCOMES) as shard:
        assert "40 of 50 records failed" in str(shard.header.held_because)


def test_a_released_run_publishes_what_was_held(pipeline: Pipeline) -> None:
    """The failures that were written before count as this run's own, and they are retried still."""
    manifest, predictions = held(pipeline)
    pipeline.publish(predictions, pipeline.assess(manifest, predictions))
    failures = pipeline.records.documents()[10:]
    pipeline.runs.release_hold(Generation("dag/run"), "ada", "looked at", AT)
    shards = pipeline.publish(predictions, pipeline.assess(manifest, predictions))
    outcomes = list(pick(pipeline.outcomes(shards)).values())
    assert outcomes == ["predicted"] * 10 + ["retry_later"] * 40
    assert pipeline.records.documents()[10:] == failures


def test_the_failures_of_a_run_that_was_released_first_are_retried(pipeline: Pipeline) -> None:
    """The release concerns the predictions."""
    manifest, predictions = held(pipeline)
    pipeline.runs.release_hold(Generation("dag/run"), "ada", "known", AT)
    shards = pipeline.publish(predictions, pipeline.assess(manifest, predictions))
    assert list(pick(pipeline.outcomes(shards)).values()) == ["predicted"] * 10 + ["retry_later"] * 40
    failure: Document = pipeline.records.document(10)["prediction_failure"]  # type: ignore[assignment]
    assert (failure["reason"], failure["next_attempt_at"]) == ("not_found", AT + timedelta(minutes=15))


@pytest.mark.parametrize(
    ("shares", "outcome"), [((0.2, 0.9), "retry_later"), ((0.9, 0.2), "quarantined")], ids=repr
)
def test_published_again_with_another_budget_a_failure_is_reported_as_the_record_carries_it(
    pipeline: Pipeline, shares: tuple[float, float], outcome: str
) -> None:
    """It is written once, and not changed when the run is assessed again."""
    manifest, predictions = held(pipeline)
    for share in shares:
        shards = pipeline.publish(
            predictions, pipeline.assess(manifest, predictions, FailureBudget(share=share))
        )
    assert {name: row["outcome"] for name, row in pipeline.outcomes(shards).items() if row["reason"]} == {
        named(number): outcome for number in range(10, 50)
    }
    failure: Document = pipeline.records.document(10)["prediction_failure"]  # type: ignore[assignment]
    assert (failure["next_attempt_at"] is None) is (outcome == "quarantined")


def test_fetched_and_published_again_a_failure_is_reported_with_the_reason_that_the_record_carries(
    pipeline: Pipeline,
) -> None:
    """The ledger and the records agree on it."""
    pipeline.add(1)
    manifest = pipeline.snapshot()
    first = pipeline.predictions_of(manifest)
    pipeline.publish(first, pipeline.assess(manifest, first))
    pipeline.images.images[url_of(1)] = FetchFailure(url_of(1), Reason.TIMEOUT, "no answer")
    second = pipeline.predictions_of(manifest)
    (row,) = pipeline.outcomes(pipeline.publish(second, pipeline.assess(manifest, second))).values()
    assert (row["outcome"], row["reason"]) == ("quarantined", "not_found")
    assert pipeline.records.document(1)["prediction_failure"]["reason"] == "not_found"  # type: ignore[index]


# --- lost replies


@pytest.mark.parametrize("applied", [True, False], ids=["reply lost", "request lost"])
@pytest.mark.parametrize("losses", [1, 2])
def test_after_a_lost_reply_every_record_is_written_once(
    pipeline: Pipeline, losses: int, applied: bool
) -> None:
    """The records are read back, and sent again only where the write did not arrive."""
    pipeline.records = records = LosesReplies(losses, applied=applied)
    pipeline.add_digit(1, 0)
    pipeline.add(2)
    assert pipeline.run().outcomes | {} == {
        "predicted": 1,
        "quarantined": 1,
        "retry_later": 0,
        "held": 0,
        "conflict": 0,
        "gone": 0,
    }
    assert "prediction_history" not in pipeline.records.document(1)
    assert records.sent == (1 if applied else losses + 1)


def test_a_database_that_never_answers_is_a_transient_error(pipeline: Pipeline) -> None:
    """The task is retried; nothing is undone."""
    pipeline.records = LosesReplies(3, applied=False)
    pipeline.add_digit(1, 0)
    ready = pipeline.ready_to_publish()
    with pytest.raises(Transient, match="publish again"):
        ready.publish()
    assert ready.outcome_of(named(1))["outcome"] == "predicted"


@pytest.mark.parametrize(
    ("meanwhile", "outcome"),
    [
        (lambda p: p.records.delete(1), "gone"),
        (lambda p: edit(p, 1, label="seven"), "conflict"),
        (lambda p: edit(p, 1, image_url=url_of("new")), "conflict"),
    ],
    ids=["deleted", "labelled", "edited"],
)
def test_what_happened_during_a_lost_request_is_seen(
    pipeline: Pipeline, meanwhile: Callable[[Pipeline], None], outcome: str
) -> None:
    """An unknown outcome must not overwrite what others wrote."""

    class Meanwhile(LosesReplies):
        def apply(self, changes: Sequence[Change]) -> WriteReport:
            if self.losses:
                meanwhile(pipeline)
            return super().apply(changes)

    pipeline.records = Meanwhile(1, applied=False)
    pipeline.add_digit(1, 0)
    assert pipeline.ready_to_publish().outcome_of(named(1))["outcome"] == outcome


# --- refused writes


def test_a_refused_write_is_tried_again_later_and_the_others_are_written(pipeline: Pipeline) -> None:
    """With the database's message."""
    pipeline.records = Refuses(2)
    for number in (1, 2, 3):
        pipeline.add_digit(number, number)
    rows = pipeline.outcomes(pipeline.ready_to_publish().publish())
    assert list(pick(rows).values()) == ["predicted", "retry_later", "predicted"]
    assert rows[named(2)]["reason"] == "write_refused"
    assert "code 121" in str(rows[named(2)]["detail"])


def test_a_refused_record_carries_the_failure_and_is_not_selected_for_ever(
    pipeline: Pipeline,
) -> None:
    """After five attempts it is permanent: then nobody has corrected the validator."""
    pipeline.records = Refuses(1)
    pipeline.add_digit(1, 0)
    runs = []
    for number in range(6):
        runs.append(pipeline.run(f"dag/{number}"))
        pipeline.at += timedelta(days=2)
    document = pipeline.records.document(1)
    assert "prediction" not in document
    assert document["prediction_failure"]["reason"] == "write_refused"  # type: ignore[index]
    assert [run.outcomes["retry_later"] for run in runs] == [1, 1, 1, 1, 0, 0]
    assert [run.outcomes["quarantined"] for run in runs] == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("failures_too", [False, True])
def test_a_refused_write_adds_up_in_the_ledger(pipeline: Pipeline, failures_too: bool) -> None:
    """Also where the record takes nothing at all; the detail says so."""
    pipeline.records = Refuses(1, failures_too=failures_too)
    pipeline.add_digit(1, 0)
    pipeline.add_digit(2, 1)
    ledger = pipeline.run()
    assert (ledger.outcomes["predicted"], ledger.outcomes["retry_later"]) == (1, 1)
    assert ledger.reasons == {"write_refused": 1}
    refused = "code 121: Document failed validation"
    detail = f"not even the failure could be written: {refused}" if failures_too else refused
    assert ledger.examples == {"write_refused": [{"record_id": named(1), "url": url_of(1), "detail": detail}]}


def test_a_refused_failure_is_reported_too(pipeline: Pipeline) -> None:
    """The record carries nothing, so the next run selects it again."""
    pipeline.records = Refuses(1, failures_too=True)
    pipeline.add(1)
    row = pipeline.ready_to_publish().outcome_of(named(1))
    assert (row["outcome"], row["reason"]) == ("retry_later", "write_refused")
    assert str(row["detail"]).startswith("not even the failure could be written: code 121")
    assert "prediction_failure" not in pipeline.records.document(1)


def test_a_refused_write_is_the_same_when_published_again(pipeline: Pipeline) -> None:
    """A retry of the task reports what the record carries, also if the database would take it now."""
    pipeline.records = records = Refuses(1)
    pipeline.add_digit(1, 0)
    ready = pipeline.ready_to_publish()
    ready.publish()
    database = pipeline.records.documents()
    records.ids = ()
    row = ready.outcome_of(named(1))
    assert (row["outcome"], row["reason"]) == ("retry_later", "write_refused")
    assert pipeline.records.documents() == database


@pytest.mark.parametrize("deleted", [False, True])
def test_a_record_that_changes_after_its_write_was_refused_has_its_own_outcome(
    pipeline: Pipeline, deleted: bool
) -> None:
    """The failure meets the change: nothing is written, and nobody reports a failure."""

    class ChangesThen(Refuses):
        def apply(self, changes: Sequence[Change]) -> WriteReport:
            report = super().apply(changes)
            if report.refused:
                self.delete(1) if deleted else edit(pipeline, 1, label="seven")
            return report

    pipeline.records = ChangesThen(1)
    pipeline.add_digit(1, 0)
    ledger = pipeline.run()
    assert ledger.outcomes["gone" if deleted else "conflict"] == 1


def test_the_failures_of_records_that_changed_are_not_counted(pipeline: Pipeline) -> None:
    """Neither by reason nor as examples: they were not written."""
    for number in (1, 2):
        pipeline.add(number)
    ready = pipeline.ready_to_publish()
    edit(pipeline, 1, image_url=url_of("new"))
    ledger = pipeline.reconcile(ready.manifest, ready.publish())
    assert (ledger.outcomes["conflict"], ledger.reasons) == (1, {"not_found": 1})
    assert [example["record_id"] for example in ledger.examples["not_found"]] == [named(2)]


def test_a_deletion_and_a_refused_write_in_one_bulk_have_their_own_outcomes(pipeline: Pipeline) -> None:
    """Positions in a bulk are not mixed up."""
    pipeline.records = Refuses(3)
    for number in range(1, 6):
        pipeline.add_digit(number, number)
    pipeline.records.before_write = once(lambda: pipeline.records.delete(2))
    outcomes = pick(pipeline.outcomes(pipeline.ready_to_publish().publish()))
    assert list(outcomes.values()) == ["predicted", "gone", "retry_later", "predicted", "predicted"]


# --- what is refused


def test_the_assessment_of_another_run_is_refused(pipeline: Pipeline) -> None:
    """A run is not published by another run's assessment."""
    pipeline.add_digit(1, 0)
    one, other = pipeline.ready_to_publish("dag/one"), pipeline.ready_to_publish("dag/other")
    with pytest.raises(Permanent, match="assesses"):
        pipeline.publish(one.predictions, other.assessment)
    assert "prediction" not in pipeline.records.document(1)


def test_a_damaged_prediction_shard_writes_nothing(pipeline: Pipeline) -> None:
    """The digest is checked before the first record."""
    pipeline.add_digit(1, 0)
    ready = pipeline.ready_to_publish()
    key = ready.predictions[0].removeprefix(pipeline.objects.uri(""))
    pipeline.objects.objects[key] = pipeline.objects.objects[key][:-1]
    with pytest.raises(Damaged, match="sha256"):
        ready.publish()
    assert "prediction" not in pipeline.records.document(1)


def test_a_damaged_part_writes_nothing(pipeline: Pipeline) -> None:
    """Without the snapshot there is nothing to compare the records with."""
    pipeline.add_digit(1, 0)
    ready = pipeline.ready_to_publish()
    key = pipeline.manifest(ready.manifest).parts[0].uri.removeprefix(pipeline.objects.uri(""))
    pipeline.objects.objects[key] = pipeline.objects.objects[key][:-1]
    with pytest.raises(Damaged, match="sha256"):
        ready.publish()
    assert "prediction" not in pipeline.records.document(1)


def test_a_long_part_is_written_in_several_bulks(pipeline: Pipeline) -> None:
    """And its rows stay in order."""
    for number in range(2_100):
        pipeline.add(number, image_url=None)
    bulks: list[None] = []
    pipeline.records.before_write = lambda: bulks.append(None)
    rows = pipeline.outcomes(pipeline.publish(*unassessed(pipeline)))
    assert len(bulks) == 3
    assert list(rows) == [named(number) for number in range(2_100)]


def unassessed(pipeline: Pipeline) -> tuple[list[str], str]:
    """Return prediction shards and assessment of one run over everything."""
    manifest = pipeline.snapshot(records_per_part=5_000)
    predictions = pipeline.predictions_of(manifest)
    return predictions, pipeline.assess(manifest, predictions)


def test_a_champion_promoted_in_mid_run_changes_nothing_in_that_run(
    pipeline: Pipeline, champion: BundleRef
) -> None:
    """Every step after the snapshot uses the bundle that its manifest pins."""
    pipeline.add_digit(1)
    manifest = pipeline.snapshot()
    newer = BundleRef(MODEL, 2, "memory://objects/models/newer", "sha256:newer")
    assert pipeline.models.promote(newer, champion, PROMOTION)
    predictions = pipeline.classify(pipeline.fetch(manifest))
    pipeline.publish(predictions, pipeline.assess(manifest, predictions))
    assert pipeline.records.document(1)["prediction"]["model"]["digest"] == champion.digest
