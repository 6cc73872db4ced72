"""What runs say of themselves in a real Airflow: state, log, XComs, note, and the events of their assets.

Each run has a day of its own, weeks ago, so that it takes no record of another test.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from mnist_ops.local import sample_digits
from tests.e2e.deployment import CLASSIFY, TIMEOUT_S, Deployment, Run
from tests.e2e.website import Website

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

CONSUMER = "after_labelling"  # tests/e2e/dags
# Days before today, one for each run.
FAILING, COUNTED, EMPTY, REFUSED = 50, 51, 52, 53
MISSING, BLOCKED = 50, 10  # records whose image is not there, or whose address is not allowed


# The course


@pytest.fixture(scope="module")
def failed(deployment: Deployment, website: Website, champion: str) -> dict[str, Run]:
    """The cause of every failure is still there; the runs of this stage go side by side.

    All records of a window fail, a window is only counted, another one is empty, and a backfill asks for what
    is only for runs by hand.
    """
    assert champion
    deployment.adapters.records.insert(*failing_records(website), *website.of_day(COUNTED, 3))
    deployment.airflow.unpause(CONSUMER)
    runs = {
        "failing": deployment.trigger(form(website, FAILING)),
        "counted": deployment.trigger(form(website, COUNTED) | {"dry_run": True}),
        "empty": deployment.trigger(form(website, EMPTY)),
    }
    refused = {"dag_run_conf": {"since": website.window(REFUSED)[0].isoformat(), "limit": 5}}
    runs |= deployment.backfill({"refused": website.window(REFUSED)}, **refused)
    return deployment.all_finished(runs)


@pytest.fixture(scope="module")
def fixed(deployment: Deployment, website: Website, failed: Mapping[str, Run]) -> Run:
    """The run after the cause was fixed: the images are there, and the time of the next attempt has come."""
    assert failed["failing"].state == "failed"
    write_missing_images(website)
    due = {"$set": {"prediction_failure.next_attempt_at": datetime.now(UTC) - timedelta(seconds=1)}}
    deployment.collection.update_many({"_id": {"$regex": "^missing-"}}, due)
    return deployment.finished(deployment.trigger(form(website, FAILING)))


@pytest.fixture(scope="module")
def reprocessed(deployment: Deployment, website: Website, failed: Mapping[str, Run]) -> Run:
    """The run that was refused, done again by a backfill without any parameter."""
    assert failed["refused"].state == "failed"
    again = deployment.backfill({"again": website.window(REFUSED)}, reprocess_behavior="completed")
    return deployment.finished(again["again"])


def failing_records(website: Website) -> list[dict[str, Any]]:
    """Records that all fail, for two reasons."""
    missing = {f"missing-{number:02d}": f"{website.url}/late/{number}.png" for number in range(MISSING)}
    blocked = {f"blocked-{number:02d}": f"http://127.0.0.2/{number}.png" for number in range(BLOCKED)}
    created_at = website.window(FAILING)[0]
    urls = missing | blocked
    return [{"_id": name, "image_url": url, "created_at": created_at} for name, url in urls.items()]


def write_missing_images(website: Website) -> None:
    """Put the images that were not there where their records look for them."""
    digits, _ = sample_digits.load("test")
    folder = website.folder / "late"
    folder.mkdir()
    for number in range(MISSING):
        (folder / f"{number}.png").write_bytes(sample_digits.png(digits[number]))


def form(website: Website, day: int) -> dict[str, object]:
    """The form of a run by hand over one day."""
    since, until = website.window(day)
    return {"since": since.isoformat(), "until": until.isoformat()}


# What can be seen


def note(run: Run) -> list[str]:
    """The lines of a run's note."""
    return str(run.facts["note"]).splitlines()


def xcom(deployment: Deployment, run: Run, task: str, key: str) -> Any:
    """What a task of a run pushed."""
    path = f"/dags/{CLASSIFY}/dagRuns/{quote(run.id, safe='')}/taskInstances/{task}/xcomEntries/{key}"
    return deployment.airflow.call("GET", path)["value"]


def log(deployment: Deployment, run: Run, task: str) -> str:
    """What the last try of a task has logged."""
    path = f"/dags/{CLASSIFY}/dagRuns/{quote(run.id, safe='')}/taskInstances/{task}"
    last = deployment.airflow.call("GET", path)["try_number"]
    return str(deployment.airflow.call("GET", f"{path}/logs/{last}")["content"])


def events_of(deployment: Deployment, run: Run) -> list[dict[str, Any]]:
    """The events of assets that a run has caused."""
    path = f"/assets/events?source_dag_id={CLASSIFY}&source_run_id={quote(run.id, safe='')}"
    found = deployment.airflow.call("GET", path)["asset_events"]
    assert isinstance(found, list)
    return found


# A run in which everything fails


def test_a_run_over_its_budget_is_red_with_nothing_to_hold(failed):
    """Every task but the last did its work."""
    run = failed["failing"]
    assert (run.state, run.tasks["publish"], run.tasks["reconcile"]) == ("failed", ["success"], ["failed"])
    assert run.ledger["outcomes"]["predicted"] == run.ledger["outcomes"]["held"] == 0


def test_the_note_of_a_red_run_begins_with_the_reason(failed):
    """Failures by number and reason, then what can be done."""
    run = failed["failing"]
    first, *others = note(run)
    failures = MISSING + BLOCKED
    reasons = f"{MISSING} not_found, {BLOCKED} blocked_address"
    assert first.startswith(f"MNIST Ops: {failures} of {failures} records failed ({reasons})")
    assert any(line.startswith("- `mnist-ops records list --run ") for line in others)


def test_the_log_of_a_red_run_says_the_reason(deployment, failed):
    """In the task that failed."""
    said = f"{MISSING + BLOCKED} of {MISSING + BLOCKED} records failed"
    assert said in log(deployment, failed["failing"], "reconcile")


def test_a_red_run_leaves_its_counts_and_no_event(deployment, failed):
    """Programs need not read its log."""
    run = failed["failing"]
    counts = xcom(deployment, run, "reconcile", "counts")
    assert (counts["selected"], counts["over_budget"]) == (MISSING + BLOCKED, True)
    assert counts["reasons"] == {"not_found": MISSING, "blocked_address": BLOCKED}
    assert events_of(deployment, run) == []


def test_after_its_cause_is_fixed_the_next_run_predicts_the_records(fixed, deployment):
    """Nothing of it was quarantined for good."""
    assert (fixed.state, fixed.ledger["outcomes"]["predicted"]) == ("success", MISSING)
    predicted = {"_id": {"$regex": "^missing-"}, "prediction.run": fixed.key}
    assert deployment.collection.count_documents(predicted) == MISSING


# A run that only counts


def test_only_count_leaves_its_count_as_xcom_and_note(deployment, failed):
    """And writes nothing."""
    run = failed["counted"]
    assert (run.state, run.ledgers) == ("success", ())
    assert xcom(deployment, run, "snapshot", "count") == 3
    assert note(run)[0] == "MNIST Ops: 3 records would be taken; nothing was written"


# A backfill that asks for what it cannot have


def test_a_backfill_with_since_is_red_at_its_snapshot(failed):
    """It takes no record; the note names the parameter and what to do."""
    run = failed["refused"]
    assert (run.state, run.tasks["snapshot"], run.ledgers) == ("failed", ["failed"], ())
    assert "snapshot failed: since: not for a backfill" in note(run)[0]
    assert "choose the dates of the backfill" in note(run)[0]


def test_a_reprocessing_backfill_without_reclassify_says_what_it_takes(deployment, reprocessed):
    """In the log of its snapshot and in the run's note: only what waits, and how to ask for more."""
    assert (reprocessed.state, reprocessed.ledger["generation"]) == ("success", 1)
    said = "This backfill ran again without `reclassify`, so it takes only records that still wait."
    assert f"- {said}" in note(reprocessed)
    assert '"Override parameters on existing runs"' in note(reprocessed)[-1]
    assert said in log(deployment, reprocessed, "snapshot")


# Assets


def test_a_run_that_predicted_records_has_an_event_that_says_which(deployment, fixed, champion):
    """How many, by which model, in which window."""
    [event], model = events_of(deployment, fixed), deployment.adapters.models.champion("lenet5")
    assert model.digest == champion
    assert (event["name"], event["source_task_id"]) == ("mnist_ops_records_labelled", "reconcile")
    assert event["extra"] == {
        "run": fixed.key,
        "generation": 0,
        "records": MISSING,
        "since": fixed.ledger["selection"]["since"],
        "until": fixed.ledger["selection"]["until"],
        "model": "lenet5",
        "model_version": model.version,
    }


def test_a_run_without_records_has_no_event(deployment, failed):
    """It is green, and there is no news."""
    run = failed["empty"]
    assert (run.state, run.ledger["selected"], events_of(deployment, run)) == ("success", 0, [])


def test_a_dag_that_waits_for_labelled_records_runs_once(deployment, fixed):
    """After the one run that predicted any."""
    assert fixed.state == "success"
    airflow, run_id = deployment.airflow, deployment.first_run(CONSUMER)
    assert airflow.wait(CONSUMER, run_id, TIMEOUT_S) == "success"
    [run] = airflow.runs(CONSUMER)
    assert run["run_type"] == "asset_triggered"


def test_the_assets_are_shown_before_their_first_event(deployment):
    """Whoever schedules a DAG on them finds them."""
    names = {asset["name"] for asset in deployment.airflow.call("GET", "/assets?only_active=true")["assets"]}
    released = {"mnist_ops_model_released", "mnist_ops_model_promoted"}
    assert names >= {"mnist_ops_records_labelled"} | released


# A person's own words


def test_a_persons_note_is_kept_when_the_run_is_done_again(deployment, failed):
    """Ours is replaced below it."""
    run = failed["empty"]
    path = f"/dags/{CLASSIFY}/dagRuns/{quote(run.id, safe='')}"
    deployment.airflow.call("PATCH", path, {"note": f"Asked for by Vera.\n\n{run.facts['note']}"})
    deployment.clear(run.id)
    again = deployment.finished(run.id)
    assert note(again)[:3] == ["Asked for by Vera.", "", "MNIST Ops: 0 records: none was waiting"]
    assert "\n".join(note(again)).count("MNIST Ops") == 1
