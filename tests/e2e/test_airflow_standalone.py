"""One course through a real Airflow: its scheduler, its REST API, its backfills.

The stages depend on each other and run once, in this order, as the fixtures of this module; each keeps
what it saw, and the tests are the claims about that.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from mnist_ops.adapters.tracking.sqlite_reader import Experiments
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.reasons import Reason
from mnist_ops.steps.artifacts.bundles import download_bundle
from mnist_ops.steps.choose import read_choice
from mnist_ops.vision.inference.bundle import read_bundle
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
    "sweep": {"kernel_sizes": [[3, 3], [3, 5], [5, 3], [5, 5]]},
}
LABELLED_SINCE, IMAGE_LOST = "day-2-03", "day-2-07"


def counted(run: Run) -> dict[str, int]:
    """What a ledger counts, without its zeros."""
    return {outcome: count for outcome, count in run.ledger["outcomes"].items() if count}


# The course


@pytest.fixture(scope="module")
def woken(deployment: Deployment) -> Stage:
    """Both DAGs are unpaused on empty collections, which starts a run of each."""

    def act() -> dict[str, Run]:
        for dag_id in (CLASSIFY, TRAIN):
            deployment.airflow.unpause(dag_id)
        return {
            dag_id: deployment.finished(deployment.first_run(dag_id), dag_id) for dag_id in (CLASSIFY, TRAIN)
        }

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
def first_model(trained: Stage) -> RegisteredModel:
    """The model that the training released."""
    return trained.deployment.adapters.models.models(MODEL)[0]


@pytest.fixture(scope="module")
def by_hand(trained: Stage, website: Website) -> Stage:
    """Two runs by hand over parts of yesterday: one asked for in the form, one by an interval."""
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
        return deployment.all_finished(runs)

    return deployment.stage(act)


@pytest.fixture(scope="module")
def windows(website: Website) -> dict[str, tuple[datetime, datetime]]:
    """The days to backfill, oldest first."""
    return {f"day-{day}": website.window(day) for day in BACKFILLED}


@pytest.fixture(scope="module")
def backfilled(by_hand: Stage, windows) -> Stage:
    """A backfill over three windows, the newest first, two at a time."""
    deployment = by_hand.deployment
    return deployment.stage(lambda: deployment.all_finished(deployment.backfill(windows, run_backwards=True)))


@pytest.fixture(scope="module")
def scheduled_again(woken: Stage, backfilled: Stage, website: Website) -> Stage:
    """The scheduled run is cleared after a record has arrived late, so it selects anew."""
    deployment, run_id = backfilled.deployment, woken.runs[CLASSIFY].id
    deployment.adapters.records.insert(website.late())

    def act() -> dict[str, Run]:
        deployment.clear(run_id)
        return {"scheduled": deployment.finished(run_id)}

    return deployment.stage(act)


@pytest.fixture(scope="module")
def promoted(scheduled_again: Stage) -> str:
    """A second model, trained on the same data with another seed, is champion; its digest."""
    return promote_another(scheduled_again.deployment.adapters, seed=1)


@pytest.fixture(scope="module")
def reprocessed(scheduled_again: Stage, promoted: str, website: Website, windows) -> Stage:
    """One window is backfilled again for the new champion, after a label was set and an image was lost."""
    assert promoted
    deployment = scheduled_again.deployment
    website.lose_image(scheduled_again.after[IMAGE_LOST])
    deployment.collection.update_one({"_id": LABELLED_SINCE}, {"$set": {"label": "nine"}})
    options = {"reprocess_behavior": "completed", "dag_run_conf": {"reclassify": "stale"}}

    def act() -> dict[str, Run]:
        return deployment.all_finished(deployment.backfill({"day-2": windows["day-2"]}, **options))

    return deployment.stage(act)


@pytest.fixture(scope="module")
def at_once(reprocessed: Stage) -> Stage:
    """Two runs by hand over everything so far, at the same time."""
    deployment = reprocessed.deployment

    def act() -> dict[str, Run]:
        runs = {"undated": deployment.trigger(), "dated": deployment.trigger(logical_date=datetime.now(UTC))}
        return deployment.all_finished(runs)

    return deployment.stage(act)


@pytest.fixture(scope="module")
def repeated(at_once: Stage, scheduled_again: Stage, windows) -> Stage:
    """What was done is done again, in three ways at the same time.

    A finished run is cleared from after its snapshot on, finished windows are backfilled in another
    order, and one more run looks at everything.
    """
    deployment, cleared = at_once.deployment, scheduled_again.runs["scheduled"].id
    again = {name: windows[name] for name in ("day-4", "day-3")}

    def act() -> dict[str, Run]:
        deployment.clear(cleared, "part.fetch")
        runs = {"cleared": cleared, "new": deployment.trigger()}
        return deployment.all_finished(runs | deployment.backfill(again, reprocess_behavior="completed"))

    return deployment.stage(act)


@pytest.fixture(scope="module")
def cleared_whole(repeated: Stage, at_once: Stage, website: Website) -> Stage:
    """A run that had two parts is cleared, snapshot and all, when there is one record left for it."""
    deployment, run_id = repeated.deployment, at_once.runs["undated"].id
    deployment.adapters.records.insert(website.last())

    def act() -> dict[str, Run]:
        deployment.clear(run_id)
        return {"cleared": deployment.finished(run_id)}

    return deployment.stage(act)


# Empty collections


def test_unpausing_runs_both_dags_green_on_empty_collections(woken):
    """A schedule starts its latest interval at once, and having nothing to do is no failure."""
    assert {(run.state, run.facts["run_type"]) for run in woken.runs.values()} == {("success", "scheduled")}


def test_the_ledger_of_an_empty_run_is_all_zeros(woken):
    """A run with nothing to do accounts for nothing."""
    assert [
        (ledger["selected"], sum(ledger["outcomes"].values())) for ledger in woken.runs[CLASSIFY].ledgers
    ] == [(0, 0)]


def test_a_training_with_nothing_labelled_is_skipped_from_the_fetching_on(woken):
    """Only its snapshot runs."""
    tasks = woken.runs[TRAIN].tasks
    assert {name for name, states in tasks.items() if states != ["skipped"]} == {"plan", "snapshot"}


# Training, and what the form refuses


def test_a_training_releases_version_1(trained, first_model):
    """It is registered with its figures."""
    assert trained.runs["train"].state == "success"
    assert first_model.bundle.version == 1
    assert first_model.decision.why.startswith("good enough as the first champion")
    assert first_model.metrics["test_accuracy"] >= 0.5


def test_the_released_model_classifies_from_then_on(by_hand, first_model):
    """Runs pin the champion, and predictions name it."""
    models = {by_hand.after[name]["prediction"]["model"]["digest"] for name in by_hand.changed}
    assert models == {first_model.bundle.digest}


def test_the_registered_bundle_is_whole_and_names_its_training(deployment, first_model, tmp_path):
    """The bundle in the object store is the registered one; params of the form reached the training."""
    card = read_bundle(download_bundle(deployment.adapters.objects, first_model.bundle, tmp_path)).card
    assert (card.hyperparameters["epochs"], card.hyperparameters["batch_size"]) == (5, 16)
    assert card.architecture.network == "conv20-50-500"


def test_the_trials_of_a_sweep_run_as_mapped_tasks(trained):
    """Each in a process of its own; one choice, one evaluation, one release."""
    tasks = trained.runs["train"].tasks
    assert tasks["train"] == ["success"] * 4
    assert [tasks[name] for name in ("choose", "evaluate", "release", "promote")] == [["success"]] * 4


def test_the_winner_of_a_sweep_was_picked_on_validation(trained, first_model):
    """The table of trials lies beside the trainings."""
    objects = trained.deployment.adapters.objects
    (key,) = [key for key in objects.keys("trainings/") if "/sweep-" in key]
    choice = read_choice(objects, objects.uri(key))
    best = max(choice.trials, key=lambda trial: trial.selection_key)
    assert len(choice.trials) == 4
    assert choice.winner == best.training == first_model.training


@pytest.mark.usefixtures("trained")
def test_the_trials_of_a_sweep_are_tracked_as_experiments(running):
    """The stack keeps them in its own folder."""
    folder = Path(running.settings["MNIST_OPS_TRAINING_DIR"])
    noted = Experiments(folder / "experiments.sqlite").all()
    assert [experiment.status for experiment in noted] == [Status.FINISHED] * 4


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


def test_a_training_changes_no_record(trained):
    """It reads human labels and writes none."""
    assert trained.changed == set()


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


def test_a_run_by_hand_takes_the_oldest_records_of_the_window_asked_for(by_hand):
    """Since, until and limit: the first five hours from two o'clock on."""
    run = by_hand.runs["form"]
    assert run.state == "success"
    assert by_hand.predicted_by("form") == set(names("hour", range(2, 7)))
    assert (run.ledger["selected"], counted(run)) == (5, {"predicted": 5})


def test_a_run_without_a_logical_date_works(by_hand):
    """It has no interval either, and needs none."""
    facts = by_hand.runs["form"].facts
    assert (facts["logical_date"], facts["data_interval_start"]) == (None, None)


def test_an_interval_given_by_the_api_is_the_window(by_hand):
    """Not the interval that Airflow would infer from the logical date."""
    run = by_hand.runs["interval"]
    assert run.state == "success"
    assert by_hand.predicted_by("interval") == set(names("hour", range(12, 18)))


def test_runs_by_hand_leave_all_other_records_alone(by_hand):
    """What nobody asked for is byte for byte as it was."""
    assert by_hand.changed == {*names("hour", range(2, 7)), *names("hour", range(12, 18))}


# Backfills


def test_a_backfill_finishes_every_record_of_its_windows(backfilled):
    """Each ends with a prediction, or with the reason why there is none."""
    assert {run.state for run in backfilled.runs.values()} == {"success"}
    documents = backfilled.after
    assert {name for name in ALL_BACKFILLED if "prediction" in documents[name]} == ALL_BACKFILLED
    assert documents["no-such-image"]["prediction_failure"]["reason"] == Reason.NOT_FOUND


def test_a_backfill_predicts_each_record_in_its_own_window(backfilled, windows):
    """A window's run takes what was created in it, and nothing else."""
    for name, run in backfilled.runs.items():
        assert backfilled.predicted_by(name) == set(names(name, range(PER_WINDOW)))
        selection = run.ledger["selection"]
        assert (selection["since"], selection["until"]) == tuple(end.isoformat() for end in windows[name])


def pools(stage: Stage, name: str) -> set[str]:
    """The pools that the tasks of one of a stage's runs were in."""
    path = f"/dags/{CLASSIFY}/dagRuns/{quote(stage.runs[name].id, safe='')}/taskInstances"
    return {instance["pool"] for instance in stage.deployment.airflow.call("GET", path)["task_instances"]}


def test_a_backfill_leaves_places_to_live_runs(backfilled, by_hand):
    """Its tasks are in a pool of their own, also those of windows that it expands."""
    assert [pools(backfilled, name) for name in backfilled.runs] == [{"backfill"}] * len(BACKFILLED)
    assert pools(by_hand, "form") == {"default_pool"}


def test_a_backfill_of_finished_windows_leaves_places_to_live_runs(repeated):
    """Airflow clears the tasks of such a run before it makes it a backfill."""
    assert [pools(repeated, name) for name in ("day-4", "day-3")] == [{"backfill"}] * 2
    assert pools(repeated, "cleared") == {"default_pool"}


def test_the_ledgers_of_a_backfill_balance(backfilled):
    """Everything selected is accounted for, once."""
    assert {name: counted(run) for name, run in backfilled.runs.items()} == {
        "day-4": {"predicted": PER_WINDOW},
        "day-3": {"predicted": PER_WINDOW, "quarantined": 1},
        "day-2": {"predicted": PER_WINDOW},
    }
    for run in backfilled.runs.values():
        assert run.ledger["selected"] == sum(counted(run).values())
        assert run.ledger["imbalance"] is None


def test_a_backfill_touches_no_record_outside_its_windows(backfilled):
    """Records of other days are byte for byte as they were."""
    assert backfilled.changed == ALL_BACKFILLED | {"no-such-image"}


def test_a_backwards_backfill_begins_with_the_newest_window_two_at_a_time(backfilled):
    """The oldest window starts only when one of the two newer ones has ended."""
    oldest, *newer = (backfilled.runs[f"day-{day}"] for day in BACKFILLED)
    assert oldest.moment("start_date") >= min(run.moment("end_date") for run in newer)


# The schedule


def test_a_scheduled_run_picks_up_a_late_record(scheduled_again):
    """Its window was done when it arrived; the next scheduled run takes it all the same."""
    run = scheduled_again.runs["scheduled"]
    assert (run.state, run.facts["run_type"]) == ("success", "scheduled")
    assert LATE in scheduled_again.predicted_by("scheduled")


def test_a_record_without_a_creation_time_is_not_lost(scheduled_again):
    """No window holds it, so it ends with the first run that has no beginning."""
    failure = scheduled_again.after[UNDATED]["prediction_failure"]
    assert (failure["reason"], failure["next_attempt_at"]) == (Reason.BAD_CREATED_AT, None)


def test_a_scheduled_run_takes_all_that_waits_from_before_its_end(scheduled_again):
    """What runs by hand left of yesterday, and nothing of today."""
    left = {*names("hour", range(HOURS))} - {*names("hour", range(2, 7)), *names("hour", range(12, 18))}
    assert scheduled_again.predicted_by("scheduled") == left | {LATE}
    assert scheduled_again.changed == left | {LATE, UNDATED}


def test_clearing_the_snapshot_begins_the_next_generation(scheduled_again):
    """It selects anew, under the same run."""
    run = scheduled_again.runs["scheduled"]
    assert [(ledger["generation"], ledger["selected"]) for ledger in run.ledgers] == [(0, 0), (1, 15)]


# A new champion


def test_a_reprocessing_backfill_keeps_the_run_and_counts_the_generation(reprocessed, backfilled):
    """Airflow clears the run there is, so it keeps its name."""
    run = reprocessed.runs["day-2"]
    assert (run.state, run.key) == ("success", backfilled.runs["day-2"].key)
    assert [ledger["generation"] for ledger in run.ledgers] == [0, 1]
    assert counted(run) == {"predicted": PER_WINDOW - 2, "quarantined": 1}


def test_stale_predictions_are_replaced_and_kept_in_the_history(reprocessed, promoted):
    """The new champion's prediction stands, the former champion's lies beneath it."""
    for name in set(names("day-2", range(PER_WINDOW))) - {LABELLED_SINCE, IMAGE_LOST}:
        record = reprocessed.after[name]
        assert (record["prediction"]["model"]["digest"], record["prediction"]["generation"]) == (promoted, 1)
        assert record["prediction_history"] == [reprocessed.before[name]["prediction"]]


def test_a_reclassification_that_meets_a_404_keeps_the_old_prediction(reprocessed):
    """The failure stands beside it."""
    before, after = reprocessed.before[IMAGE_LOST], reprocessed.after[IMAGE_LOST]
    assert after["prediction_failure"]["reason"] == Reason.NOT_FOUND
    assert after == before | {"prediction_failure": after["prediction_failure"]}


def test_a_record_labelled_since_is_not_reclassified(reprocessed):
    """A human's word ends the matter."""
    assert LABELLED_SINCE not in reprocessed.changed
    assert reprocessed.after[LABELLED_SINCE]["label"] == "nine"


def test_a_reprocessing_backfill_leaves_other_windows_alone(reprocessed):
    """Predictions of the former champion stand wherever nobody asked."""
    assert reprocessed.changed == set(names("day-2", range(PER_WINDOW))) - {LABELLED_SINCE}


# Two runs over the same records


def test_two_runs_at_once_select_the_same_records(at_once):
    """Also the one with a logical date takes everything so far: nobody asked for the day before it."""
    runs = [at_once.runs["undated"], at_once.runs["dated"]]
    assert [(run.state, run.ledger["selected"]) for run in runs] == [("success", len(ALL_TODAY))] * 2
    assert at_once.runs["dated"].facts["logical_date"] is not None


def test_a_run_over_more_records_than_a_part_holds_maps_over_its_parts(at_once):
    """92 records in parts of 80: two of each mapped task."""
    tasks = at_once.runs["undated"].tasks
    mapped = {name: len(states) for name, states in tasks.items()}
    assert mapped == {
        "snapshot": 1,
        "part.fetch": 2,
        "part.classify": 2,
        "assess": 1,
        "publish": 2,
        "reconcile": 1,
    }


def test_of_two_runs_at_once_one_predicts_each_record(at_once):
    """Exactly one prediction or failure a record, and no former one beside it."""
    by_run = [at_once.predicted_by(name) | at_once.failed_in(name) for name in ("undated", "dated")]
    assert by_run[0] | by_run[1] == ALL_TODAY
    assert not by_run[0] & by_run[1]
    assert not [name for name in ALL_TODAY if "prediction_history" in at_once.after[name]]


def test_the_ledgers_of_two_runs_at_once_count_what_the_other_wrote_as_conflict(at_once):
    """Each accounts for all it selected, and together they wrote everything once."""
    counts = [counted(at_once.runs[name]) for name in ("undated", "dated")]
    assert [sum(count.values()) for count in counts] == [len(ALL_TODAY)] * 2
    assert sum(count.get("predicted", 0) for count in counts) == TODAY
    assert sum(count.get("quarantined", 0) for count in counts) == len(BAD_TODAY)
    assert sum(count.get("conflict", 0) for count in counts) == len(ALL_TODAY)


# Doing it all again


def test_clearing_what_follows_the_snapshot_changes_nothing(repeated, scheduled_again):
    """The same generation, with the model it pinned, writes the very same: no field differs."""
    before, after = scheduled_again.runs["scheduled"], repeated.runs["cleared"]
    assert after.state == "success"
    assert after.facts["start_date"] != before.facts["start_date"]
    assert repeated.changed == set()
    for name in ("_id", "manifest", "model", "selected", "outcomes", "reasons", "superseded"):
        assert [ledger[name] for ledger in after.ledgers] == [ledger[name] for ledger in before.ledgers]


def test_a_backfill_of_windows_that_are_done_changes_nothing(repeated, backfilled):
    """In another order than the first time: the same runs, the next generation, empty ledgers."""
    for name in ("day-4", "day-3"):
        run = repeated.runs[name]
        assert (run.state, run.key) == ("success", backfilled.runs[name].key)
        assert [ledger["generation"] for ledger in run.ledgers] == [0, 1]
        assert run.ledger["selected"] == 0
    assert repeated.changed == set()


def test_one_more_run_finds_nothing_to_do(repeated):
    """It is green with a ledger of zeros, also where older predictions are another model's."""
    run = repeated.runs["new"]
    assert (run.state, run.ledger["selected"], counted(run)) == ("success", 0, {})


def test_a_cleared_run_takes_what_is_left_in_fewer_parts(cleared_whole):
    """Its next generation has nothing to do with the shards of the one before."""
    run = cleared_whole.runs["cleared"]
    assert run.state == "success"
    assert [ledger["generation"] for ledger in run.ledgers] == [0, 1]
    assert (run.ledger["selected"], counted(run)) == (1, {"predicted": 1})
    assert cleared_whole.changed == {LAST}


def test_every_record_is_finished(repeated):
    """In the end each has a label, a prediction or the right reason why there is none."""
    documents = repeated.after
    unlabelled = {name for name, document in documents.items() if "label" not in document}
    reasons = {name: documents[name].get("prediction_failure", {}).get("reason") for name in BAD}
    assert reasons == BAD
    assert {name for name in unlabelled if "prediction" not in documents[name]} == set(BAD)
    assert len(documents) == LABELLED + len(ALL_BACKFILLED) + HOURS + len(ALL_TODAY) + 3


def test_every_prediction_is_the_likeliest_label_of_the_image_it_names(repeated):
    """Finite probabilities that sum to 1, their largest, its name, and where it all comes from."""
    for document in repeated.after.values():
        if "prediction" in document:
            prediction = document["prediction"]
            probabilities = prediction["probabilities"]
            assert abs(sum(probabilities.values()) - 1) <= 1e-6
            assert prediction["label"] == max(probabilities, key=probabilities.__getitem__)
            assert prediction["label"] == DIGITS.name(prediction["index"])
            assert prediction["confidence"] == probabilities[prediction["label"]]
            assert prediction["image"]["url"] == document["image_url"]


def test_predictions_agree_with_what_the_images_show(repeated, website):
    """So few digits make a poor model, but a picture of another record would be right once in ten."""
    predictions = {
        name: document["prediction"] for name, document in repeated.after.items() if "prediction" in document
    }
    right = [website.truth(repeated.after[name]) == found["label"] for name, found in predictions.items()]
    assert sum(right) > 0.5 * len(right)


def test_human_labelled_records_are_never_touched(repeated, website):
    """After all of it they are what the website and the human made them."""
    for record in website.labelled():
        assert repeated.after[record["_id"]] == record
    assert repeated.after[LABELLED_SINCE]["label"] == "nine"
