"""One course through a real Airflow: its scheduler, its REST API, its backfills.

The stages depend on each other and run once, in this order, as the fixtures of this module; each keeps
what it saw, and the tests are the claims about that.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from mnist_ops.adapters.tracking.sqlite_reader import Experiments
from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.training.tracking import Status
from tests.e2e.deployment import CLASSIFY, TRAIN, Deployment, Run, Stage
from tests.e2e.second_model import promote_another
from tests.e2e.website import (
    BACKFILLED,
    BAD,
    HOURS,
    LABELLED,
    LAST,
    LATE,
    PER_WINDOW,
    TODAY,
    UNDATED,
    YESTERDAY,
    Website,
    names,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MODEL = "lenet5"
ALL_BACKFILLED = {f"day-{day}-{number:02d}" for day in BACKFILLED for number in range(PER_WINDOW)}
BAD_TODAY = {"no-picture", "no-url"}
ALL_TODAY = {*names("today", range(TODAY)), *BAD_TODAY}
SWEEP = {
    "epochs": 5,
    "batch_size": 16,
    "config": {"network": "conv20-50-500"},
    "sweep": {"kernel_sizes": [[3, 3], [5, 5]]},
}
TRIALS = 2


# The course


@pytest.fixture(scope="module")
def woken(deployment: Deployment, unpaused: Run) -> Stage:
    """Both DAGs are unpaused on empty collections; a training is asked for all the same."""

    def act() -> dict[str, Run]:
        run_id = deployment.airflow.trigger(TRAIN)
        return {CLASSIFY: unpaused, TRAIN: deployment.finished(run_id, TRAIN)}

    return deployment.stage(act)


@pytest.fixture(scope="module")
def trained(woken: Stage, website: Website) -> Stage:
    """All records are stored but the late one; the trials of a sweep are trained on the labelled ones."""
    deployment = woken.deployment
    deployment.adapters.records.insert(*website.labelled(), *website.waiting(), *website.bad())

    def act() -> dict[str, Run]:
        run_id = deployment.airflow.trigger(TRAIN, SWEEP)
        return {"train": deployment.finished(run_id, TRAIN)}

    return deployment.stage(act)


@pytest.fixture(scope="module")
def windows(website: Website) -> dict[str, tuple[datetime, datetime]]:
    """The days to backfill, oldest first."""
    return {f"day-{day}": website.window(day) for day in BACKFILLED}


@pytest.fixture(scope="module")
def classified(trained: Stage, website: Website, windows) -> Stage:
    """Runs over different records, all at once: two by hand over yesterday, and a backfill of three days.

    One run by hand has its window from the form, the other from its interval. The backfill takes the newest
    window first, two at a time.
    """
    deployment, midnight = trained.deployment, website.window(YESTERDAY)[0]
    form = {
        "since": (midnight + timedelta(hours=2)).isoformat(),
        "until": (midnight + timedelta(hours=9)).isoformat(),
        "limit": 5,
    }
    interval = (midnight + timedelta(hours=12), midnight + timedelta(hours=18))

    def act() -> dict[str, Run]:
        runs = {"form": deployment.trigger(form)}
        runs["interval"] = deployment.trigger(logical_date=midnight + timedelta(hours=20), interval=interval)
        return deployment.all_finished(runs | deployment.backfill(windows, run_backwards=True))

    return deployment.stage(act)


@pytest.fixture(scope="module")
def scheduled_again(woken: Stage, classified: Stage, website: Website, windows) -> Stage:
    """The scheduled run is cleared after a late record; a window that is done is backfilled once more."""
    deployment, run_id = classified.deployment, woken.runs[CLASSIFY].id
    deployment.adapters.records.insert(website.late())

    def act() -> dict[str, Run]:
        deployment.clear(run_id)
        done = deployment.backfill({"day-4": windows["day-4"]}, reprocess_behavior="completed")
        return deployment.all_finished({"scheduled": run_id} | done)

    return deployment.stage(act)


@pytest.fixture(scope="module")
def promoted(scheduled_again: Stage) -> str:
    """A second model, trained on the same data with another seed, is champion; its digest."""
    return promote_another(scheduled_again.deployment.adapters, seed=1)


@pytest.fixture(scope="module")
def repeated(scheduled_again: Stage, promoted: str, windows) -> Stage:
    """With the new champion, all at once: a stale window, two runs over everything, a run cleared in part.

    The window is backfilled again with `reclassify=stale`. The two runs by hand select the same records. The
    scheduled run is cleared from after its snapshot on.
    """
    assert promoted
    deployment, cleared = scheduled_again.deployment, scheduled_again.runs["scheduled"].id
    options = {"reprocess_behavior": "completed", "dag_run_conf": {"reclassify": "stale"}}

    def act() -> dict[str, Run]:
        runs = {"undated": deployment.trigger(), "dated": deployment.trigger(logical_date=datetime.now(UTC))}
        deployment.clear(cleared, "part.fetch")
        runs |= {"cleared": cleared} | deployment.backfill({"day-2": windows["day-2"]}, **options)
        return deployment.all_finished(runs)

    return deployment.stage(act)


@pytest.fixture(scope="module")
def cleared_whole(repeated: Stage, website: Website) -> Stage:
    """A run that had two parts is cleared as a whole, with one record left; another run looks at the rest."""
    deployment, run_id = repeated.deployment, repeated.runs["undated"].id
    deployment.adapters.records.insert(website.last())

    def act() -> dict[str, Run]:
        deployment.clear(run_id)
        new = deployment.trigger({"until": website.midnight.isoformat()})
        return deployment.all_finished({"cleared": run_id, "new": new})

    return deployment.stage(act)


# Empty collections


def test_unpausing_classifies_the_last_day_at_once(woken):
    """A schedule starts its latest interval, and having nothing to do is no failure."""
    run = woken.runs[CLASSIFY]
    assert (run.state, run.facts["run_type"]) == ("success", "scheduled")


def test_unpausing_trains_nothing(trained):
    """The weekly run comes at its next time, not beside the training that somebody asks for."""
    runs = trained.deployment.airflow.runs(TRAIN)
    assert [run["run_type"] for run in runs] == ["manual"] * 2


def test_a_training_on_an_empty_collection_is_green(woken):
    """Having nothing to train on is no failure."""
    assert woken.runs[TRAIN].state == "success"


def test_a_training_with_nothing_labelled_is_skipped_from_the_fetching_on(woken):
    """Only its snapshot runs."""
    tasks = woken.runs[TRAIN].tasks
    assert {name for name, states in tasks.items() if states != ["skipped"]} == {"plan", "snapshot"}


# Training, and what the form refuses


def test_a_training_releases_version_1(trained):
    """The registry has it."""
    assert trained.runs["train"].state == "success"
    assert [model.bundle.version for model in trained.deployment.adapters.models.models(MODEL)] == [1]


def test_the_trials_of_a_sweep_run_as_mapped_tasks(trained):
    """Each in a process of its own; one choice, one evaluation, one release."""
    tasks = trained.runs["train"].tasks
    assert tasks["train"] == ["success"] * TRIALS
    assert [tasks[name] for name in ("choose", "evaluate", "release", "promote")] == [["success"]] * 4


@pytest.mark.usefixtures("trained")
def test_the_trials_of_a_sweep_are_tracked_as_experiments(running):
    """The stack keeps them in its own folder."""
    folder = Path(running.settings["MNIST_OPS_TRAINING_DIR"])
    experiments = Experiments(folder / "experiments.sqlite").all()
    assert [experiment.status for experiment in experiments] == [Status.FINISHED] * TRIALS


@pytest.mark.usefixtures("trained")
def test_the_report_of_a_release_is_shown_to_those_who_signed_in(running):
    """The page is the bundle's own; nobody else sees it."""
    reports = f"{running.airflow_url}/mnist-ops/reports"
    assert requests.get(f"{reports}/1", timeout=30).status_code == 401
    account = {"username": running.airflow_user, "password": running.airflow_password}
    signed_in = requests.post(f"{running.airflow_url}/auth/token", json=account, timeout=30).json()
    signed_in = {"Authorization": f"Bearer {signed_in['access_token']}"}
    answer = requests.get(f"{reports}/1", headers=signed_in, timeout=30)
    assert answer.status_code == 200
    assert "<!doctype html>" in answer.text.lower()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert requests.get(f"{reports}/99", headers=signed_in, timeout=30).status_code == 404


@pytest.mark.parametrize(
    ("dag_id", "params", "field"),
    [
        (CLASSIFY, {"reclassify": "sometimes"}, "reclassify"),
        (CLASSIFY, {"limit": 0}, "limit"),
        (CLASSIFY, {"limit": "ten"}, "limit"),
        (CLASSIFY, {"since": "yesterday"}, "since"),
        (CLASSIFY, {"until": {"$gt": ""}}, "until"),
        (CLASSIFY, {"dry_run": "yes"}, "dry_run"),
        (TRAIN, {"epochs": 0}, "epochs"),
        (TRAIN, {"optimizer": "adam; rm -rf /"}, "optimizer"),
        (TRAIN, {"sweep": {"epochs": 3}}, "sweep"),
    ],
)
def test_bad_params_are_refused_by_name_and_start_nothing(trained, dag_id, params, field):
    """The form's schema answers 400, before any run exists."""
    airflow = trained.deployment.airflow
    runs = len(airflow.runs(dag_id))
    with pytest.raises(Permanent, match=f" 400 .*{field}"):
        airflow.trigger(dag_id, params)
    assert len(airflow.runs(dag_id)) == runs


def test_a_backfill_with_bad_params_is_refused_by_name_and_starts_nothing(trained, windows):
    """Its configuration is held against the same schema."""
    deployment = trained.deployment
    runs = len(deployment.airflow.runs(CLASSIFY))
    with pytest.raises(Permanent, match=r" 4\d\d .*reclassify"):
        deployment.backfill(windows, dag_run_conf={"reclassify": "sometimes"})
    assert len(deployment.airflow.runs(CLASSIFY)) == runs


# Runs by hand


def test_a_run_by_hand_takes_the_oldest_records_of_the_window_asked_for(classified):
    """Since, until and limit: the first five hours from two o'clock on."""
    run = classified.runs["form"]
    assert run.state == "success"
    assert classified.predicted_by("form") == set(names("hour", range(2, 7)))
    assert run.ledger["selected"] == 5


def test_a_run_without_a_logical_date_works(classified):
    """It has no interval either, and needs none."""
    facts = classified.runs["form"].facts
    assert (facts["logical_date"], facts["data_interval_start"]) == (None, None)


def test_an_interval_given_by_the_api_is_the_window(classified):
    """Not the interval that Airflow would infer from the logical date."""
    run = classified.runs["interval"]
    assert run.state == "success"
    assert classified.predicted_by("interval") == set(names("hour", range(12, 18)))


# Backfills


def test_a_backfill_finishes_every_record_of_its_windows(classified):
    """Each run takes the records of its own day."""
    for day in BACKFILLED:
        run = classified.runs[f"day-{day}"]
        assert (run.state, run.facts["run_type"]) == ("success", "backfill")
        assert classified.predicted_by(f"day-{day}") == set(names(f"day-{day}", range(PER_WINDOW)))
    assert classified.failed_in("day-3") == {"no-such-image"}


def test_runs_touch_no_record_outside_their_windows(classified):
    """Whatever else there is stays byte for byte as it was."""
    by_hand = {*names("hour", range(2, 7)), *names("hour", range(12, 18))}
    assert classified.changed == by_hand | ALL_BACKFILLED | {"no-such-image"}


def test_a_backwards_backfill_begins_with_the_newest_window_two_at_a_time(classified):
    """The oldest window starts only when one of the two newer ones has ended."""
    oldest, *newer = (classified.runs[f"day-{day}"] for day in BACKFILLED)
    assert oldest.moment("start_date") >= min(run.moment("end_date") for run in newer)


def test_a_backfill_of_a_window_that_is_done_changes_nothing(scheduled_again, classified):
    """The same run, the next generation, an empty ledger."""
    run = scheduled_again.runs["day-4"]
    assert (run.state, run.key) == ("success", classified.runs["day-4"].key)
    assert [ledger["generation"] for ledger in run.ledgers] == [0, 1]
    assert run.ledger["selected"] == 0


# The schedule


def test_a_scheduled_run_picks_up_a_late_record(scheduled_again):
    """Its window was done when it arrived; the next scheduled run takes it all the same."""
    run = scheduled_again.runs["scheduled"]
    assert (run.state, run.facts["run_type"]) == ("success", "scheduled")
    assert LATE in scheduled_again.predicted_by("scheduled")


def test_a_scheduled_run_takes_a_record_without_a_creation_time(scheduled_again):
    """No window holds it, so it ends with the first run that has no beginning."""
    assert scheduled_again.failed_in("scheduled") == {UNDATED}


def test_a_scheduled_run_takes_all_that_waits_from_before_its_end(scheduled_again):
    """What runs by hand left of yesterday, and nothing of today."""
    left = {*names("hour", range(HOURS))} - {*names("hour", range(2, 7)), *names("hour", range(12, 18))}
    assert scheduled_again.predicted_by("scheduled") == left | {LATE}
    assert scheduled_again.changed == left | {LATE, UNDATED}


def test_clearing_the_snapshot_begins_the_next_generation(scheduled_again):
    """It selects again, in the same run."""
    run = scheduled_again.runs["scheduled"]
    assert [(ledger["generation"], ledger["selected"]) for ledger in run.ledgers] == [(0, 0), (1, 15)]


# A new champion


def test_a_reprocessing_backfill_keeps_the_run_and_counts_the_generation(repeated, classified):
    """Airflow clears the run there is, so it keeps its name."""
    run = repeated.runs["day-2"]
    assert (run.state, run.key) == ("success", classified.runs["day-2"].key)
    assert [ledger["generation"] for ledger in run.ledgers] == [0, 1]


def test_the_configuration_of_a_backfill_reaches_its_runs(repeated, promoted):
    """Without `reclassify=stale` there would be nothing to do; the new champion is the one in use."""
    assert repeated.predicted_by("day-2") == set(names("day-2", range(PER_WINDOW)))
    models = {
        repeated.after[name]["prediction"]["model"]["digest"] for name in repeated.predicted_by("day-2")
    }
    assert models == {promoted}


# Two runs over the same records


def test_two_runs_at_once_select_the_same_records(repeated):
    """Also the one with a logical date takes everything so far: nobody asked for the day before it."""
    runs = [repeated.runs["undated"], repeated.runs["dated"]]
    assert [(run.state, run.ledger["selected"]) for run in runs] == [("success", len(ALL_TODAY))] * 2
    assert repeated.runs["dated"].facts["logical_date"] is not None


def test_a_run_over_more_records_than_a_part_holds_maps_over_its_parts(repeated):
    """92 records in parts of 80: two of each mapped task."""
    tasks = repeated.runs["undated"].tasks
    mapped = {name: len(states) for name, states in tasks.items()}
    assert mapped == {
        "snapshot": 1,
        "part.fetch": 2,
        "part.classify": 2,
        "assess": 1,
        "publish": 2,
        "reconcile": 1,
    }


def test_of_two_runs_at_once_one_writes_each_record(repeated):
    """Exactly one prediction or failure a record, and no former one beside it."""
    by_run = [repeated.predicted_by(name) | repeated.failed_in(name) for name in ("undated", "dated")]
    assert by_run[0] | by_run[1] == ALL_TODAY
    assert not by_run[0] & by_run[1]
    assert not [name for name in ALL_TODAY if "prediction_history" in repeated.after[name]]


# Doing it all again


def test_clearing_what_follows_the_snapshot_changes_nothing(repeated, scheduled_again):
    """The same generation, with the model it pinned, writes the very same: no field differs."""
    before, after = scheduled_again.runs["scheduled"], repeated.runs["cleared"]
    assert after.state == "success"
    assert after.facts["start_date"] != before.facts["start_date"]
    assert repeated.changed == ALL_TODAY | set(names("day-2", range(PER_WINDOW)))
    for name in ("_id", "manifest", "model", "selected", "outcomes", "reasons", "superseded"):
        assert [ledger[name] for ledger in after.ledgers] == [ledger[name] for ledger in before.ledgers]


def test_one_more_run_finds_nothing_to_do(cleared_whole):
    """It is green, also where older predictions are another model's."""
    run = cleared_whole.runs["new"]
    assert (run.state, run.ledger["selected"]) == ("success", 0)


def test_a_cleared_run_takes_what_is_left_in_fewer_parts(cleared_whole):
    """Its next generation has nothing to do with the shards of the one before."""
    run = cleared_whole.runs["cleared"]
    assert run.state == "success"
    assert [(ledger["generation"], ledger["selected"]) for ledger in run.ledgers] == [(0, 92), (1, 1)]
    assert cleared_whole.changed == {LAST}


def test_every_record_is_finished(cleared_whole, website):
    """Each has its human label as it was, a prediction, or the right reason why there is none."""
    documents = cleared_whole.after
    labelled = {str(record["_id"]): record for record in website.labelled()}
    assert {name: documents[name] for name in labelled} == labelled
    reasons = {name: documents[name].get("prediction_failure", {}).get("reason") for name in BAD}
    assert reasons == BAD
    assert {name for name in documents if "prediction" not in documents[name]} == set(BAD) | set(labelled)
    assert len(documents) == LABELLED + len(ALL_BACKFILLED) + HOURS + len(ALL_TODAY) + 4
