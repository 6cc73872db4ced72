"""The invariants I1 to I6 of the pipeline, over random mixes of records and of what happens meanwhile."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.images import FetchFailure
from mnist_ops.domain.keys import Generation, sha256_hex
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.manifest import Manifest
from mnist_ops.domain.outcomes import Ledger, Outcome
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.run_summary import RunFailed
from mnist_ops.domain.selection import Reclassify, takes
from mnist_ops.steps.artifacts.objects import get_verified
from mnist_ops.steps.artifacts.parts import read_part
from tests.support.pipeline_in_memory import AT, CREATED, MODEL, Pipeline, png_of, url_of

DIGITS_SERVED = 4
TRANSIENT = [reason for reason in Reason if reason.transient]

ids = st.one_of(
    st.integers(-5, 5),
    st.integers(2**40, 2**40 + 3),
    st.text(max_size=3),
    st.binary(min_size=1, max_size=2),
    st.booleans(),
    st.floats(0.5, 3.5),
)
junk = st.none() | st.integers(-3, 3) | st.text(max_size=2) | st.lists(st.integers(0, 2), max_size=2)
urls = st.one_of(
    st.integers(0, DIGITS_SERVED - 1).map(lambda number: url_of(f"digit-{number}")),
    st.sampled_from([url_of(name) for name in ("missing", "slow", "text", "truncated", "digit-copy")]),
)
failures = st.fixed_dictionaries(
    {"attempts": st.integers(0, 6), "next_attempt_at": st.sampled_from([None, AT, AT + timedelta(days=1)])}
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Any record: mostly valid, sometimes not."""
    document: dict[str, Any] = {
        "image_url": draw(urls | junk) if draw(st.integers(0, 3)) == 0 else draw(urls)
    }
    if draw(st.integers(0, 9)):
        document["created_at"] = CREATED + timedelta(hours=draw(st.integers(-48, 47)))
    else:
        document["created_at"] = draw(junk)
    if draw(st.integers(0, 4)) == 0:
        document["label"] = draw(st.sampled_from(["seven", "ten", 3, None, ""]))
    if draw(st.integers(0, 4)) == 0:
        document["prediction"] = draw(
            st.fixed_dictionaries({"run": st.just("old/run"), "model": st.just({"digest": "sha256:old"})})
            | junk
        )
    if draw(st.integers(0, 4)) == 0:
        failure = draw(failures) | {"image_url": document["image_url"], "reason": "timeout", "run": "old/run"}
        document["prediction_failure"] = failure
    document["anything"] = draw(junk)
    return document


@dataclass
class Mix:
    """The input of a generated run.

    Attributes:
        documents: records by id.
        selection: what the run takes.
        records_per_part: the size of a part.
        meanwhile: what happens to records between snapshot and write.
    """

    documents: Mapping[Any, dict[str, Any]]
    selection: dict[str, Any]
    records_per_part: int
    meanwhile: list[tuple[str, Any]]


@st.composite
def mixes(draw: st.DrawFn) -> Mix:
    """Records, a selection, and what happens meanwhile."""
    chosen = draw(st.dictionaries(ids, documents(), min_size=1, max_size=12))
    events = st.tuples(
        st.sampled_from(["label", "edit", "delete"]), st.sampled_from(sorted(chosen, key=repr))
    )
    since = draw(st.none() | st.just(CREATED - timedelta(hours=24)))
    return Mix(
        documents=chosen,
        selection={
            "since": since,
            "until": draw(st.none() | st.just(CREATED + timedelta(hours=12))),
            "reclassify": draw(st.sampled_from(Reclassify)),
            "limit": draw(st.none() | st.integers(1, 5)),
        },
        records_per_part=draw(st.integers(1, 6)),
        meanwhile=draw(st.lists(events, max_size=3)),
    )


def filled(pipeline: Pipeline, mix: Mix) -> Pipeline:
    """Return a pipeline of its own that holds the mix."""
    pipeline = Pipeline(load=pipeline.load, objects=pipeline.copy().objects, models=pipeline.copy().models)
    served = {url_of(f"digit-{number}"): png_of(number) for number in range(DIGITS_SERVED)}
    broken = {url_of("text"): b"text", url_of("truncated"): png_of(0)[:50], url_of("digit-copy"): png_of(0)}
    slow = {url_of("slow"): FetchFailure(url_of("slow"), Reason.TIMEOUT, "no answer")}
    pipeline.images.images = {**served, **broken, **slow}
    for record_id, document in mix.documents.items():
        pipeline.records.insert({"_id": record_id, **document})
    return pipeline


def happen(pipeline: Pipeline, events: list[tuple[str, Any]]) -> None:
    """Let people and other programs change records."""
    for event, record_id in events:
        try:
            document = pipeline.records.document(record_id)
        except KeyError:
            continue
        if event == "delete":
            pipeline.records.delete(record_id)
        else:
            change = {"label": "four"} if event == "label" else {"image_url": url_of("edited")}
            pipeline.records.insert(document | change)


def state(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Return every record by its id as shards name it."""
    return {pipeline.records.head(bson.encode(d)).id_json: d for d in pipeline.records.documents()}


@dataclass
class Ran:
    """A mix after its run, with everything that tests look at."""

    pipeline: Pipeline
    manifest: Manifest
    ledger: Ledger
    rows: dict[str, Mapping[str, Any]]
    row_count: int
    taken: list[str]
    before: dict[str, dict[str, Any]]
    at_write: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]
    publish_again: Any


def ran(pipeline: Pipeline, mix: Mix) -> Ran:
    """Run the whole pipeline over a mix, while things happen."""
    pipeline = filled(pipeline, mix)
    before = state(pipeline)
    ready = pipeline.ready_to_publish(records_per_part=mix.records_per_part, **mix.selection)
    happen(pipeline, mix.meanwhile)
    at_write = state(pipeline)
    shards = ready.publish()
    manifest = pipeline.manifest(ready.manifest)
    documents = [d for part in manifest.parts for d in read_part(pipeline.objects, part)]
    return Ran(
        pipeline=pipeline,
        manifest=manifest,
        ledger=pipeline.reconcile(ready.manifest, shards),
        rows=pipeline.outcomes(shards),
        row_count=sum(len(pipeline.outcomes([uri])) for uri in shards),
        taken=[pipeline.records.head(document).id_json for document in documents],
        before=before,
        at_write=at_write,
        after=state(pipeline),
        publish_again=ready.publish,
    )


# The champion is the same for all examples, and every example makes a pipeline of its own.
over_mixes = settings(max_examples=25, suppress_health_check=[*HealthCheck])


@over_mixes
@given(mix=mixes())
def test_every_record_of_a_snapshot_has_exactly_one_outcome(pipeline: Pipeline, mix: Mix) -> None:
    """I1, I2: and manifest, parts, outcome shards and ledger agree on the counts."""
    run = ran(pipeline, mix)
    assert sorted(run.rows) == sorted(run.taken)
    assert len(run.taken) == run.row_count == run.manifest.records == run.ledger.selected
    counted = Counter(str(row["outcome"]) for row in run.rows.values())
    assert {name: count for name, count in run.ledger.outcomes.items() if count} == dict(counted)
    assert set(run.ledger.outcomes) == {str(outcome) for outcome in Outcome}
    assert run.ledger.imbalance() is None


@over_mixes
@given(mix=mixes())
def test_a_snapshot_takes_what_the_rule_takes(pipeline: Pipeline, mix: Mix) -> None:
    """No more, and no fewer than the limit allows."""
    run = ran(pipeline, mix)
    heads = [run.pipeline.records.head(bson.encode(document)) for document in run.before.values()]
    wanted = {head.id_json for head in heads if takes(run.manifest.selection, head)}
    limit = mix.selection["limit"]
    assert set(run.taken) <= wanted
    assert len(run.taken) == (min(limit, len(wanted)) if limit else len(wanted))


@over_mixes
@given(mix=mixes())
def test_a_human_label_is_never_changed_and_nothing_else_is_but_our_own_fields(
    pipeline: Pipeline, mix: Mix
) -> None:
    """I4: and records that were not selected, or are in conflict, are equal before and after."""
    run = ran(pipeline, mix)
    written = {"predicted", "quarantined", "retry_later"}
    ours = {"prediction", "prediction_history", "prediction_failure"}
    assert run.after.keys() == run.at_write.keys()
    for record_id, document in run.after.items():
        then = run.at_write[record_id]
        row = run.rows.get(record_id)
        if row is None or row["outcome"] not in written:
            assert document == then
        else:
            assert {k: v for k, v in document.items() if k not in ours} == {
                k: v for k, v in then.items() if k not in ours
            }
            assert then.get("label") is None


@over_mixes
@given(mix=mixes())
def test_a_prediction_carries_its_provenance_and_honest_probabilities(pipeline: Pipeline, mix: Mix) -> None:
    """I3, I6: bundle, image, run, snapshot; finite, summing to 1, the label their argmax."""
    run = ran(pipeline, mix)
    champion = run.pipeline.models.champion(MODEL)
    assert champion is not None
    images = {url: data for url, data in run.pipeline.images.images.items() if isinstance(data, bytes)}
    for record_id in (key for key, row in run.rows.items() if row["outcome"] == "predicted"):
        document = run.after[record_id]
        prediction = document["prediction"]
        assert prediction["model"]["digest"] == champion.digest
        assert prediction["image"]["sha256"] == sha256_hex(images[document["image_url"]])
        assert (prediction["run"], prediction["generation"], prediction["at"]) == ("dag/run", 0, AT)
        probabilities = prediction["probabilities"]
        assert list(probabilities) == list(DIGITS.names)
        assert abs(sum(probabilities.values()) - 1) <= 1e-6
        assert probabilities[prediction["label"]] == max(probabilities.values()) == prediction["confidence"]
        assert "prediction_failure" not in document


@over_mixes
@given(mix=mixes())
def test_a_failure_names_its_reason_and_keeps_the_prediction(pipeline: Pipeline, mix: Mix) -> None:
    """I7: attempts are bounded, and a permanent reason has no next attempt."""
    run = ran(pipeline, mix)
    for record_id, row in run.rows.items():
        if row["outcome"] not in ("quarantined", "retry_later"):
            assert row["reason"] is None or row["outcome"] in ("conflict", "gone")
            continue
        document, then = run.after[record_id], run.at_write[record_id]
        failure = document["prediction_failure"]
        assert failure["reason"] == row["reason"]
        assert document.get("prediction") == then.get("prediction")
        assert failure["attempts"] >= 1
        final = row["reason"] not in {str(reason) for reason in TRANSIENT} or failure["attempts"] >= 5
        assert (failure["next_attempt_at"] is None) == final == (row["outcome"] == "quarantined")


@over_mixes
@given(mix=mixes())
def test_publishing_again_changes_nothing(pipeline: Pipeline, mix: Mix) -> None:
    """I3: the same tuple gives the same effect, and the same outcomes."""
    run = ran(pipeline, mix)
    again = run.pipeline.outcomes(run.publish_again())
    assert state(run.pipeline) == run.after
    assert {key: row["outcome"] for key, row in again.items()} == {
        key: row["outcome"] for key, row in run.rows.items()
    }


@over_mixes
@given(mix=mixes())
def test_every_object_is_immutable_and_named_by_its_digest(pipeline: Pipeline, mix: Mix) -> None:
    """I5: a rerun of every step leaves all objects as they were, and may add more."""
    run = ran(pipeline, mix)
    objects = run.pipeline.objects
    before = dict(objects.objects)
    manifest = run.ledger.manifest
    run.pipeline.publish(*_again(run.pipeline, manifest))
    assert before.items() <= objects.objects.items()
    for key in objects.objects:
        if not key.startswith("models/") and not key.endswith(".bson.gz"):
            get_verified(objects, objects.uri(key))


def _again(pipeline: Pipeline, manifest: str) -> tuple[list[str], str]:
    predictions = pipeline.predictions_of(manifest)
    return predictions, pipeline.assess(manifest, predictions)


@over_mixes
@given(mix=mixes())
def test_no_record_is_selected_for_ever(pipeline: Pipeline, mix: Mix) -> None:
    """I7, I9: daily runs finish every record that can be finished."""
    pipeline = filled(pipeline, mix)
    for number in range(6):
        pipeline.run(f"daily/{number}")
        pipeline.at += timedelta(days=2)
    assert pipeline.run("daily/last").selected == 0


@settings(max_examples=15, suppress_health_check=[*HealthCheck])
@given(mix=mixes(), order=st.permutations([0, 1, 2]))
def test_a_backfill_gives_the_same_database_in_any_order_and_twice(
    pipeline: Pipeline, mix: Mix, order: list[int]
) -> None:
    """In the design's sense: label, index, probabilities, digest, image and reason."""
    cuts = [CREATED + timedelta(hours=hours) for hours in (-48, -16, 16, 48)]

    def backfilled(windows: list[int]) -> dict[str, object]:
        one = filled(pipeline, mix)
        for window in windows:
            one.run(f"backfill/{window}", since=cuts[window], until=cuts[window + 1])
        return {key: _same(document) for key, document in state(one).items()}

    assert backfilled([0, 1, 2]) == backfilled([*order, *order])


def _same(document: dict[str, Any]) -> object:
    prediction, failure = document.get("prediction"), document.get("prediction_failure")
    if isinstance(prediction, dict) and "probabilities" in prediction:
        names = ("label", "index", "probabilities")
        prediction = (*(prediction[name] for name in names), prediction["model"], prediction["image"])
    return prediction, failure["reason"] if failure else None


def test_three_overlapping_runs_give_one_prediction_a_record(pipeline: Pipeline) -> None:
    """Backfill, schedule and a run by hand over one window: one winner a record, conflicts counted."""
    for number in range(6):
        pipeline.add_digit(number, number)
    runs = [pipeline.ready_to_publish(f"dag/{name}") for name in ("backfill", "scheduled", "manual")]
    ledgers = [pipeline.reconcile(ready.manifest, ready.publish()) for ready in runs]
    assert [ledger.outcomes["predicted"] for ledger in ledgers] == [6, 0, 0]
    assert [ledger.outcomes["conflict"] for ledger in ledgers] == [0, 6, 6]


def test_a_second_run_over_the_same_data_is_green_and_changes_nothing(pipeline: Pipeline) -> None:
    """It selects nothing, and leaves a ledger of zeros."""
    for number in range(3):
        pipeline.add_digit(number, number)
    pipeline.add("missing")
    pipeline.run("dag/one")
    database = pipeline.records.documents()
    ledger = pipeline.run("dag/two")
    assert (ledger.selected, set(ledger.outcomes.values())) == (0, {0})
    assert pipeline.records.documents() == database


def test_a_held_run_that_nobody_releases_keeps_its_records_waiting(pipeline: Pipeline) -> None:
    """Once the images are there again, the next run predicts them."""
    for number in range(30):
        pipeline.add_digit(number, number % 4)
    for number in range(30, 60):
        url = url_of(number)
        pipeline.images.images[url] = FetchFailure(url, Reason.CONNECTION_FAILED, "down")
        pipeline.add(number)
    with pytest.raises(Permanent, match="30 predictions are held"):
        pipeline.run("dag/one")
    for number in range(30, 60):
        pipeline.images.images[url_of(number)] = png_of(0)
    assert pipeline.run("dag/two").outcomes["predicted"] == 60


def test_after_a_wrong_setting_for_a_whole_run_the_records_are_predicted(pipeline: Pipeline) -> None:
    """60 of 60 addresses are blocked; once the host is allowed, the next run takes the records by itself."""
    for number in range(60):
        url = url_of(number)
        pipeline.images.images[url] = FetchFailure(url, Reason.BLOCKED_ADDRESS, "10.0.0.1 is private")
        pipeline.add(number)
    with pytest.raises(RunFailed, match="60 of 60 records failed") as raised:
        pipeline.run("dag/one")
    assert raised.value.ledger.outcomes["retry_later"] == 60
    for number in range(60):
        pipeline.images.images[url_of(number)] = png_of(0)
    assert pipeline.run("dag/two").outcomes["predicted"] == 60


def test_generations_of_a_run_have_ledgers_of_their_own(pipeline: Pipeline) -> None:
    """Clearing a run does not lose the ledger of its earlier generation."""
    pipeline.add_digit(1, 0)
    pipeline.run(generation=0)
    pipeline.run(generation=1, reclassify="all")
    assert [ledger["_id"] for ledger in pipeline.runs.ledgers()] == ["dag/run/0", "dag/run/1"]
    assert pipeline.runs.committed(Generation("dag/run", 1)) is not None
