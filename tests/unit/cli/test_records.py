"""`mnist-ops records list` and `records show`, on stores in memory."""

import json
from dataclasses import replace

import pytest
from bson import ObjectId
from typer.testing import CliRunner, Result

from mnist_ops import wiring
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli import app
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.record_ids import possible_ids, readable_id
from tests.support.small_runs import EVERYTHING_AGAIN, SmallRuns

OID = "65f000000000000000000001"


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> SmallRuns:
    """A finished run of 12 records, 2 of them without an image, and a later run of nothing."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    runs.records.insert({**runs.document(10), "_id": ObjectId(OID)}, {**runs.document(11), "_id": "seven"})
    for number in (2, 3):
        runs.images.images.pop(f"https://images.example/{number}.png")
    runs.run(Generation("dag/run"))
    runs.run(Generation("dag/empty"))
    monkeypatch.setattr(
        wiring,
        "adapters_of_environment",
        lambda settings, _: replace(runs.steps().adapters, settings=settings),
    )
    return runs


def mnist_ops(*words: str) -> Result:
    """Run a command of `records`."""
    return CliRunner().invoke(app, ["records", *words])


def listed(*words: str) -> list[dict[str, object]]:
    """What `records list --json` prints."""
    return [json.loads(line) for line in mnist_ops("list", "--json", *words).output.splitlines()]


@pytest.mark.usefixtures("stores")
def test_the_records_of_the_newest_run_that_took_any_are_listed() -> None:
    """All of them, in order, as one object a line."""
    records = listed()
    assert len(records) == 12
    assert records[0] == {
        "record_id": '{"$numberInt": "0"}',
        "outcome": "predicted",
        "reason": None,
        "detail": None,
        "url": "https://images.example/0.png",
        "label": "seven",
        "confidence": 1.0,
        "review_reason": None,
    }


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize(
    ("options", "number"),
    [
        (("--run", "run"), 12),
        (("--run", "dag/empty"), 0),
        (("--outcome", "quarantined"), 2),
        (("--outcome", "quarantined", "--outcome", "predicted"), 12),
        (("--reason", "not_found"), 2),
        (("--reason", "timeout"), 0),
        (("--outcome", "predicted", "--reason", "not_found"), 0),
        (("--needs-review",), 0),
        (("--limit", "5"), 5),
    ],
)
def test_records_are_chosen_by_run_outcome_reason_and_review(options: tuple[str, ...], number: int) -> None:
    """Every option restricts the list; one that is repeated names alternatives."""
    assert len(listed(*options)) == number


def test_predictions_to_look_at_are_listed(stores: SmallRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason; here every confidence counts as low."""
    steps = stores.steps(review_below=1.1)
    manifest = stores.snapshot(Generation("dag/unsure"), **EVERYTHING_AGAIN)
    predictions = [steps.classify(uri) for uri in stores.fetch(manifest)]
    stores.reconcile(manifest, stores.publish(manifest, predictions))
    assert {record["review_reason"] for record in listed("--needs-review")} == {"low_confidence"}
    monkeypatch.setenv("COLUMNS", "200")
    assert "seven (100.00%), needs review: low_confidence" in mnist_ops("list").output


@pytest.mark.usefixtures("stores")
def test_without_json_records_are_a_table_of_80_columns() -> None:
    """Ids are readable; failures have their detail."""
    output = mnist_ops("list", "--run", "dag/run").output
    lines = output.splitlines()
    assert lines[0] == "dag/run, generation 0"
    assert max(map(len, lines)) <= 80
    assert f"{OID}  predicted" in output
    assert "not_found" in output
    assert "https://images.example/11.png" in output


@pytest.mark.usefixtures("stores")
def test_a_table_that_is_cut_says_how_to_see_more() -> None:
    """JSON is never cut."""
    assert mnist_ops("list", "--limit", "11").output.splitlines()[-1] == (
        "these are the first 11; --limit shows more"
    )
    assert "--limit" not in mnist_ops("list", "--limit", "12").output
    assert (
        mnist_ops("list", "--reason", "timeout").output == "dag/run, generation 0: none of its 12 records\n"
    )


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize(
    ("options", "known"), [(("--outcome", "lost"), "quarantined"), (("--reason", "notfound"), "not_found")]
)
def test_an_unknown_outcome_or_reason_is_a_usage_error_with_the_list(
    options: tuple[str, str], known: str
) -> None:
    """Exit code 2."""
    result = mnist_ops("list", *options)
    assert result.exit_code == 2
    assert known in result.stderr


def test_before_the_first_run_the_list_says_so(stores: SmallRuns) -> None:
    """A run that took no record has none to list."""
    stores.runs = type(stores.runs)()
    result = mnist_ops("list")
    assert (result.exit_code, result.output) == (0, "no finished run has taken a record yet\n")
    assert (mnist_ops("list", "--json").exit_code, mnist_ops("list", "--json").output) == (0, "")


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize(
    ("typed", "image"),
    [
        ("7", "7.png"),
        ('{"$numberInt": "7"}', "7.png"),
        (OID, "10.png"),
        (f'{{"$oid": "{OID}"}}', "10.png"),
        ("seven", "11.png"),
        ('"seven"', "11.png"),
    ],
)
def test_a_record_is_found_by_its_id(typed: str, image: str) -> None:
    """A number, an ObjectId, a text, or canonical Extended JSON."""
    shown = json.loads(mnist_ops("show", typed, "--json").output)
    assert shown["image_url"] == f"https://images.example/{image}"
    assert shown["prediction"]["label"] == "seven"


def test_a_record_is_shown_in_words(stores: SmallRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own fields, the prediction, the former ones, and the failure of the last attempt."""
    monkeypatch.setenv("COLUMNS", "200")
    stores.run(Generation("dag/again"), **EVERYTHING_AGAIN)
    stores.images.images.clear()
    stores.run(Generation("dag/later"), **EVERYTHING_AGAIN)
    lines = [line.split("  ", 1) for line in mnist_ops("show", "7").output.splitlines()]
    facts = {name: value.strip() for name, value in lines}
    assert facts["_id"] == "7"
    assert facts["created_at"] == "2026-01-30T00:00:00Z"
    assert facts["prediction"] == "seven (100.00%), by lenet5 1 at 2026-01-31T12:00:00Z"
    assert facts["needs review"] == "no"
    assert facts["predicted by"] == "dag/again"
    assert facts["before"] == "seven (100.00%), by lenet5 1 at 2026-01-31T12:00:00Z"
    assert facts["failure"].startswith("not_found: ")
    assert facts["next attempt"] == "none, unless the URL changes"
    assert facts["failed in"] == "dag/later"


def test_a_record_that_was_never_taken_is_shown_without_a_prediction(stores: SmallRuns) -> None:
    """And whatever other programs wrote in its place does not matter."""
    odd = {"prediction": 5, "prediction_history": [3], "prediction_failure": []}
    stores.records.insert({"_id": "new", **odd})
    assert mnist_ops("show", "new").output.splitlines() == [
        "_id         new",
        "prediction  none",
        "before      3",
        "failure     none",
    ]


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("typed", ["8000", "nobody", '{"$oid": "65f0000000000000000000ff"}'])
def test_a_record_that_does_not_exist_is_a_usage_error(typed: str) -> None:
    """It says where it looked."""
    error = mnist_ops("show", typed).exception
    assert isinstance(error, UsageError)
    assert f"no record {typed} in mnist.records" in str(error)


@pytest.mark.usefixtures("stores")
def test_an_id_that_cannot_be_is_a_usage_error() -> None:
    """JSON, but not of an id."""
    error = mnist_ops("show", '{"$oid": "zz"}').exception
    assert isinstance(error, UsageError)
    assert str(error).startswith('{"$oid": "zz"}: not an id in canonical Extended JSON')


@pytest.mark.parametrize(
    ("id_json", "text"),
    [
        (f'{{"$oid": "{OID}"}}', OID),
        ('{"$numberInt": "-7"}', "-7"),
        ('{"$numberLong": "9007199254740993"}', "9007199254740993"),
        ('"a text"', "a text"),
        ('{"a": {"$numberInt": "1"}}', '{"a": {"$numberInt": "1"}}'),
    ],
)
def test_the_id_that_is_listed_can_be_typed(id_json: str, text: str) -> None:
    """What a table shows is among the ids that `records show` looks for."""
    assert readable_id(id_json) == text
    assert id_json in possible_ids(text)
