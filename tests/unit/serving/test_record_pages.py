"""A record's page: found by id or URL, what is on it, and the failure that is tried again."""

import re
from datetime import timedelta

import pytest
from bson import ObjectId

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.domain.keys import Generation
from mnist_ops.serving.access import Role
from tests.support.small_runs import AT, EVERYTHING_AGAIN, SmallRuns
from tests.unit.serving.test_run_pages import SCRIPT, text_of

RUN = Generation("classify_records/run-1")
OBJECT_ID = ObjectId("65bce0000000000000000001")
MISSING = '{"$numberInt": "2"}'


@pytest.fixture
def runs() -> SmallRuns:
    """A run over three records of different ids; the one with the id 2 has no image."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.records.insert(
        {**runs.document(0), "_id": OBJECT_ID},
        {**runs.document(1), "_id": "first", "note": {"from": SCRIPT}, "at": AT},
        runs.document(2),
    )
    runs.images.images.pop("https://images.example/2.png")
    runs.run(RUN)
    return runs


def record(client, runs: SmallRuns, role: Role = Role.VIEWER, **query: str):
    """A record's page."""
    return client(role, runs.steps()).get("/record", params=query)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"id": str(OBJECT_ID)}, str(OBJECT_ID)),
        ({"id": f'{{"$oid": "{OBJECT_ID}"}}'}, str(OBJECT_ID)),
        ({"id": "first"}, "first"),
        ({"id": "2"}, "2"),
        ({"id": MISSING}, "2"),
        ({"id": "https://images.example/1.png"}, "first"),
        ({"url": "https://images.example/1.png"}, "first"),
    ],
)
def test_a_record_is_found_by_its_id_or_its_url(client, runs, query: dict[str, str], name: str) -> None:
    """As people type it, or as ledgers hold it."""
    assert f"Record {name} Image" in text_of(record(client, runs, **query))


def test_records_with_the_same_url_are_listed(client, runs) -> None:
    """Each with a link to its own page."""
    runs.records.insert({**runs.document(1), "_id": "second"})
    answer = record(client, runs, url="https://images.example/1.png")
    assert "2 records These have the id or image URL https://images.example/1.png" in text_of(answer)
    links = re.findall(r'href="(/record\?id=[^"]*)"', answer.text)
    said = [text_of(client(Role.VIEWER, runs.steps()).get(link)) for link in links]
    assert ["Record first" in said[0], "Record second" in said[1]] == [True, True]


@pytest.mark.parametrize(
    "text", ["third", "https://images.example/none.png", "x" * 5_000, "9" * 19, '{"a":' * 1_900]
)
def test_an_unknown_record_is_said_in_words(client, runs, text: str) -> None:
    """With the collection that was looked in."""
    answer = record(client, runs, id=text)
    assert answer.status_code == 404
    assert "mnist.records has no record with the id or image URL" in answer.json()["detail"]


@pytest.mark.parametrize(
    "text",
    [
        '{"$regularExpression": {"pattern": "", "options": ""}}',
        '{"$gt": ""}',
        '{"$oid": "x"}',
        '{"$date": "x"}',
        '{"$date": {"$numberLong": "99999999999999999999"}}',
        '{"$numberLong": "9999999999999999999"}',
        '{"$numberDecimal": "x"}',
        '"\\ud800"',
        '{"a":' * 900 + "1" + "}" * 900,
    ],
)
def test_a_condition_or_no_id_in_place_of_an_id_is_refused(client, runs, text: str) -> None:
    """In a query it would match, and load, other records, or could not be sent."""
    assert record(client, runs, id=text).status_code == 400
    form = {"id": text, "run": RUN.run}
    answer = client(Role.REVIEWER, runs.steps()).post("/record/try-again", data=form)
    assert answer.status_code == 400


def test_a_predicted_record_shows_what_it_was_predicted_from(client, runs) -> None:
    """Both pictures, ten probabilities, run, image digest and model."""
    answer = record(client, runs, id="first")
    said, text = text_of(answer), answer.text
    assert len(re.findall(r'src="data:image/png;base64,', text)) == 2
    assert 'aria-label="zero 0.0 %, one 0.0 %' in text
    assert "seven 100.00 % confident" in said
    assert "Run classify_records/run-1" in said
    prediction = runs.records.document("first")["prediction"]
    assert isinstance(prediction, dict)
    assert f"sha256:{prediction['image']['sha256']}" in said
    assert f"lenet5 1 {prediction['model']['digest']}" in said


def test_the_other_fields_of_a_record_are_shown_as_text(client, runs) -> None:
    """Whatever a website stored there."""
    answer = record(client, runs, id="first")
    assert SCRIPT not in answer.text
    said = text_of(answer)
    assert f'note {{"from": "{SCRIPT}"}}' in said
    assert "at 2026-01-31T12:00:00Z" in said


def test_former_predictions_are_listed(client, runs) -> None:
    """With the run that made each."""
    steps = runs.steps()
    manifest = runs.snapshot(Generation("classify_records/run-2"), **EVERYTHING_AGAIN)
    runs.reconcile(manifest, runs.publish(manifest, runs.classify(runs.fetch(manifest))))
    said = text_of(client(Role.VIEWER, steps).get("/record", params={"id": "first"}))
    assert "Former predictions Label Confidence Model Selected Run seven 100.00 % lenet5 1" in said
    assert "Run classify_records/run-2" in said
    assert said.index("classify_records/run-2") < said.index("Former predictions")


def test_an_image_that_is_not_stored_any_more_is_said(client, runs) -> None:
    """Garbage collection may have deleted the run's shards."""
    for key in [key for key in runs.objects.objects if key.startswith("images/")]:
        runs.objects.delete([key])
    assert "The run's image shard is not stored any more." in text_of(record(client, runs, id="first"))


def test_a_record_in_any_form_has_a_page(client, runs) -> None:
    """Other programs may have written anything into the fields."""
    runs.records.insert(
        {"_id": "odd", "prediction": {"confidence": "high", "probabilities": {"a": float("nan"), "b": 7}}},
        {"_id": "odder", "prediction": 7, "prediction_history": [7, {}], "prediction_failure": {"run": 7}},
        {"_id": "new"},
    )
    for name in ("odd", "odder", "new"):
        text_of(record(client, runs, id=name))


def test_a_human_label_says_who_gave_it(client, runs) -> None:
    """And one that came with the record says that."""
    runs.records.insert({**runs.document(4), "_id": "labelled", "label": "four"})
    assert "four as the record came" in text_of(record(client, runs, id="labelled"))
    review = {"label": "four", "by": "vera", "at": AT + timedelta(hours=1), "was": "one", "confirmed": False}
    runs.records.insert({**runs.document(5), "_id": "reviewed", "label": "four", "label_review": review})
    said = text_of(record(client, runs, id="reviewed"))
    assert "four , by vera at 2026-01-31 13:00:00 UTC (corrects the prediction; it was one)" in said


# Trying again


def try_again(client, runs: SmallRuns, role: Role, run: str = RUN.run):
    """Send the form of the record without an image."""
    return client(role, runs.steps()).post("/record/try-again", data={"id": MISSING, "run": run})


def test_a_failure_is_shown_and_tried_again(client, runs) -> None:
    """A reviewer removes it, and the next run takes the record."""
    said = text_of(record(client, runs, Role.REVIEWER, id="2"))
    assert "not found : the server has no such image" in said
    assert "Next attempt none, unless the URL changes" in said
    runs.document(2)
    assert "the next run takes it" in text_of(try_again(client, runs, Role.REVIEWER))
    assert "prediction_failure" not in runs.records.document(2)
    ledger = runs.run(Generation("classify_records/run-2"))
    assert ledger.outcomes["predicted"] == 1


def test_a_viewer_does_not_try_again(client, runs) -> None:
    """Nor sees the button."""
    assert try_again(client, runs, Role.VIEWER).status_code == 403
    assert "prediction_failure" in runs.records.document(2)
    assert "/record/try-again" not in record(client, runs, id="2").text


def test_a_failure_of_another_run_than_was_seen_stays(client, runs) -> None:
    """A later run has tried the record meanwhile."""
    said = text_of(try_again(client, runs, Role.REVIEWER, run="classify_records/run-0"))
    assert "Nothing was done: the record has changed meanwhile." in said
    assert "prediction_failure" in runs.records.document(2)


def test_a_record_that_is_gone_is_not_tried_again(client, runs) -> None:
    """It was deleted since its page was opened."""
    runs.records.delete(2)
    assert try_again(client, runs, Role.REVIEWER).status_code == 404
