"""Each operator by itself, as the one task of a DAG of somebody's own, on the real servers."""

import gc
import json
import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import DAG, DeltaDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout

from mnist_airflow.assets import MODEL_PROMOTED
from mnist_airflow.operators import (
    AssessRunOperator,
    BuildDatasetOperator,
    ClassifyImagesOperator,
    EvaluateModelOperator,
    FetchImagesOperator,
    PromoteModelOperator,
    PublishPredictionsOperator,
    ReconcileRunOperator,
    ReleaseModelOperator,
    SnapshotRecordsOperator,
    TrainModelOperator,
    training,
)
from mnist_ops.vision.config.schema import TrainingConfig
from tests.support.airflow_dags import make_known
from tests.support.environment import environment

TERMINATED = -15
# Another than the settings name, and than the DAGs of other tests work on: it is an argument of operators.
DATABASE = "operators"


@dataclass(frozen=True)
class Executed:
    """What became of one task.

    Attributes:
        state: of its instance.
        value: what it returned.
        pushed: what it pushed besides, by key.
        error: what it failed with.
        operator: the operator as it was executed.
        log: everything that was written meanwhile.
        run_id: of its run.
        asset_events: the assets that it updated, each with the event's extra.
    """

    state: str
    value: Any
    pushed: Mapping[str, Any]
    error: BaseException | None
    operator: Any
    log: str = field(repr=False)
    run_id: str
    asset_events: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def execute(run_any) -> Callable[..., Executed]:
    """Executes an operator in a DAG of its own; keyword arguments are the operator's."""

    def run(
        operator: type, logical_date: datetime | None = None, schedule: Any = None, **arguments: object
    ) -> Executed:
        seen: dict[str, Any] = {}

        def remember(context: Mapping[str, Any]) -> None:
            seen.update(error=context.get("exception"), operator=context["ti"].task)

        dag_id = f"one_task_{operator.__name__}_{time.time_ns()}"
        with DAG(dag_id, schedule=schedule, start_date=datetime(2020, 1, 1, tzinfo=UTC)) as dag:
            operator(
                task_id="task",
                retries=0,
                on_failure_callback=remember,
                on_success_callback=remember,
                on_skipped_callback=remember,
                **{"database": DATABASE} | arguments,
            )
        make_known(dag)
        done = run_any(dag, {}, logical_date)
        pushed = {key: value for (_, key), value in done.xcoms.items()}
        return Executed(
            state=done.tasks["task"],
            value=pushed.pop("return_value", None),
            pushed=pushed,
            error=seen["error"],
            operator=seen["operator"],
            log=done.log,
            run_id=done.run_id,
            asset_events=done.asset_events,
        )

    return run


@pytest.mark.usefixtures("deployment")
def test_a_snapshot_names_a_misspelt_variable_and_a_collection_that_does_not_exist(execute) -> None:
    """Both would otherwise be a silent run of no records."""
    with environment(MNIST_OPS_MONGO_COLECTION="digits"):
        log = execute(SnapshotRecordsOperator, collection="recods", preview=True).log
    assert "MNIST_OPS_MONGO_COLECTION is not a setting" in log
    assert re.search(r"did you mean .*\n.*  MNIST_OPS_MONGO_COLLECTION\?", log)
    assert f"the collection {DATABASE}.recods does not exist" in log


def test_a_warning_of_a_variable_is_no_format_and_its_lines_are_short(monkeypatch, capsys) -> None:
    """The name of a variable may hold a percent sign."""
    monkeypatch.setenv(f"MNIST_OPS_{'LONG_' * 15}%S", "1")
    SnapshotRecordsOperator(task_id="snapshot")._warn_of_unknown_variables()
    messages = re.findall(r"\[warning *\] (.*?) *\[airflow", capsys.readouterr().out)
    assert messages[0] == f"MNIST_OPS_{'LONG_' * 15}%S is not a"
    assert max(map(len, messages)) < 100


# From labelled records to a model


@dataclass(frozen=True)
class Released:
    """The tasks of one training over 300 labelled records, in order."""

    snapshot: Executed
    fetch: Executed
    dataset: Executed
    training: Executed
    evaluation: Executed
    release: Executed
    promotion: Executed


@pytest.fixture(scope="module")
def released(deployment, execute) -> Released:
    """The operators of train_lenet, one after the other; the model becomes champion."""
    deployment.mongo[DATABASE]["labelled"].insert_many(deployment.labelled(300))
    snapshot = execute(SnapshotRecordsOperator, labelled=True, collection="labelled")
    fetched = execute(FetchImagesOperator, part=snapshot.value[0], collection="labelled")
    dataset = execute(
        BuildDatasetOperator,
        manifest=snapshot.pushed["manifest"],
        images=[fetched.value],
        collection="labelled",
    )
    config = {"epochs": 1, "batch_size": None, "seed": 3}
    training = execute(TrainModelOperator, dataset=dataset.value, config=config)
    evaluation = execute(EvaluateModelOperator, training=training.value)
    release = execute(ReleaseModelOperator, evaluation=evaluation.value)
    promotion = execute(PromoteModelOperator, gate_result=release.value, outlets=[MODEL_PROMOTED])
    return Released(snapshot, fetched, dataset, training, evaluation, release, promotion)


def uri_in(deployment, folder: str, name: str) -> Any:
    """Matches the URI of a digest-named object in a folder of the bucket."""
    return re.compile(rf"s3://{deployment.name}/{folder}/.*/{name.replace('*', '[0-9a-f]{64}')}")


def test_a_labelled_snapshot_takes_all_labelled_records(deployment, released) -> None:
    """And pins no model."""
    manifest = json.loads(deployment.read(released.snapshot.pushed["manifest"]))
    assert [part["records"] for part in manifest["parts"]] == [300]
    assert manifest["champion"] is None


def test_building_returns_the_data_sets_manifest(deployment, released) -> None:
    """With every example in one of the folds."""
    assert uri_in(deployment, "datasets", r"dataset-*\.json").fullmatch(released.dataset.value)
    assert sum(json.loads(deployment.read(released.dataset.value))["folds"].values()) == 300


def test_training_returns_the_trainings_uri(deployment, released) -> None:
    """With the config that was given, None left out."""
    assert uri_in(deployment, "trainings", r"training-*\.json").fullmatch(released.training.value)
    config = json.loads(deployment.read(released.training.value))["config"]
    assert (config["epochs"], config["seed"], config["batch_size"]) == (1, 3, TrainingConfig().batch_size)


def test_training_runs_in_a_separate_process(released) -> None:
    """CUDA must not be used in a forked one."""
    process = released.training.operator._process
    assert process.pid != os.getpid()
    assert process.returncode == 0


def test_the_training_process_writes_into_the_tasks_log(released) -> None:
    """Its lines come out as they are written, with the epoch's numbers."""
    lines = [line for line in released.training.log.splitlines() if "TrainModelOperator" in line]
    assert any("training lenet5 on" in line for line in lines)
    assert any("epoch 1: loss" in line for line in lines)


def test_a_line_of_a_training_has_its_level_and_one_time(released) -> None:
    """Those of Airflow's log; the process adds neither."""
    [line] = [line for line in released.training.log.splitlines() if "epoch 1: loss" in line]
    assert "INFO epoch" not in line
    assert len(re.findall(r"\d\d:\d\d:\d\d", line)) == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("WARNING the loss is no number\n", (logging.WARNING, "the loss is no number")),
        ("INFO epoch 1: loss 0.5\n", (logging.INFO, "epoch 1: loss 0.5")),
        ("s3://bucket/training.json\n", (logging.INFO, "s3://bucket/training.json")),
        ("\n", (logging.INFO, "")),
    ],
)
def test_a_line_of_a_training_is_logged_at_the_level_it_names(line, expected) -> None:
    """What it prints otherwise is for people's information."""
    assert training._level_and_text(line) == expected


def test_the_log_of_a_training_holds_no_secret(deployment, released) -> None:
    """Although its process needs the connections."""
    assert not [secret for secret in deployment.secrets if secret in released.training.log]


def test_evaluating_returns_the_measures_on_the_test_fold(deployment, released) -> None:
    """Of the challenger alone while there is no champion."""
    assert uri_in(deployment, "trainings", r"evaluation-*\.json").fullmatch(released.evaluation.value)
    measured = json.loads(deployment.read(released.evaluation.value))
    assert 0 <= measured["challenger"]["test"]["accuracy"] <= 1
    assert measured["champion"] is None


def test_releasing_returns_the_bundle_and_the_gate_result(deployment, released) -> None:
    """In words and numbers; it is a candidate as yet."""
    assert released.release.state == "success"
    assert (released.release.value["promote"], released.release.value["promoted"]) == (True, False)
    assert "good enough as the first champion: accuracy" in released.release.value["why"]
    assert deployment.object_keys(
        released.release.value["bundle"]["uri"].removeprefix(f"s3://{deployment.name}/")
    )


def test_promoting_returns_the_gate_result_and_whether_it_promoted(released) -> None:
    """The bundle is the champion now."""
    assert released.promotion.state == "success"
    assert released.promotion.value == released.release.value | {"promoted": True}


def test_a_promotion_updates_its_asset_and_says_which_model(released) -> None:
    """For DAGs that wait for a new champion."""
    bundle = released.release.value["bundle"]
    extra = {"model": "lenet5", "version": bundle["version"], "digest": bundle["digest"]}
    assert released.promotion.asset_events == {MODEL_PROMOTED.name: extra}


def test_a_promotion_that_the_gate_refuses_updates_no_asset(execute, released) -> None:
    """The task is green, and there is no new champion."""
    refused = released.release.value | {"promote": False, "why": "not better than the champion"}
    done = execute(PromoteModelOperator, gate_result=refused, outlets=[MODEL_PROMOTED])
    assert (done.state, done.value["promoted"], done.asset_events) == ("success", False, {})
    assert done.pushed["note"] == "lenet5 1 was not promoted: not better than the champion"


def test_operators_work_in_the_database_they_were_given(deployment, released) -> None:
    """Registry and data sets too."""
    champion = deployment.mongo[DATABASE]["mnist_ops_models"].find_one({"_id": "lenet5/champion"})
    assert champion["digest"] == released.release.value["bundle"]["digest"]


def test_what_one_task_wrote_the_next_one_read(deployment, released) -> None:
    """From the records to the bundle: lineage is a chain."""
    steps = (released.snapshot, released.fetch, released.dataset, released.training, released.evaluation)
    lineages = [step.operator.lineage() for step in (*steps, released.release)]
    [(namespace, name)] = lineages[0][0]
    assert namespace.startswith("mongodb://127.0.0.1:")
    assert name == f"{DATABASE}.labelled"
    for (_, wrote), (read, _) in pairwise(lineages):
        assert len(wrote) == 1
        assert wrote[0] in read
    bundle = released.release.value["bundle"]["uri"]
    assert lineages[-1][1] == [(f"s3://{deployment.name}", bundle.removeprefix(f"s3://{deployment.name}/"))]


# Trainings that fail


def test_a_training_that_cannot_succeed_fails_the_task_at_once(deployment, execute) -> None:
    """The process says so by its exit code."""
    missing = f"s3://{deployment.name}/datasets/run/0/dataset-{'0' * 64}.json"
    done = execute(TrainModelOperator, dataset=missing)
    assert done.operator._process.returncode == 3
    assert isinstance(done.error, AirflowFailException)
    assert missing in done.log


@dataclass(frozen=True)
class Killed:
    """A training that somebody ended.

    Attributes:
        error: what the task failed with.
        returncode: of its process.
        command: the process's command line.
        seconds: from the kill to the end.
    """

    error: BaseException | None
    returncode: int | None
    command: bytes
    seconds: float


@pytest.fixture(scope="module")
def killed(execute, released) -> Killed:
    """A long training whose task is killed as soon as its process has become the training program."""
    seen: dict[str, Any] = {"command": b""}

    class Watched(TrainModelOperator):
        """A training that is killed from another thread, as Airflow does on SIGTERM."""

        def execute(self, context: Any) -> str:
            threading.Thread(target=self.kill).start()
            return super().execute(context)

        def kill(self) -> None:
            deadline = time.monotonic() + 60
            while b"train" not in seen["command"] and time.monotonic() < deadline:
                time.sleep(0.01)
                if self._process is not None:
                    seen["command"] = Path(f"/proc/{self._process.pid}/cmdline").read_bytes()
            seen["at"] = time.monotonic()
            self.on_kill()

    done = execute(Watched, dataset=released.dataset.value, config={"epochs": 1000})
    return Killed(
        error=done.error,
        returncode=done.operator._process.returncode,
        command=seen["command"],
        seconds=time.monotonic() - seen["at"],
    )


def test_a_killed_task_ends_its_training_process(killed) -> None:
    """It would hold the GPU for nobody."""
    assert killed.returncode == TERMINATED
    assert killed.seconds < 10


def test_a_training_process_that_ends_otherwise_leaves_the_task_to_its_retries(killed) -> None:
    """Whatever ended it may not happen again."""
    assert isinstance(killed.error, AirflowException)
    assert not isinstance(killed.error, AirflowFailException)
    assert str(TERMINATED) in str(killed.error)


def test_the_command_line_of_a_training_holds_no_secret(deployment, killed) -> None:
    """Everybody on the machine can read it."""
    assert b"steps\0train" in killed.command
    assert not [secret for secret in deployment.secrets if secret.encode() in killed.command]


def test_a_training_that_takes_too_long_is_ended(execute, released) -> None:
    """The time limit of the task holds for its process."""
    done = execute(
        TrainModelOperator,
        dataset=released.dataset.value,
        config={"epochs": 5},
        execution_timeout=timedelta(seconds=2),
    )
    assert isinstance(done.error, AirflowTaskTimeout)
    assert done.operator._process.returncode == TERMINATED


# From waiting records to a ledger


@dataclass(frozen=True)
class Steps:
    """The tasks of one run over six records, one of which must fail, in order."""

    snapshot: Executed
    fetch: Executed
    classify: Executed
    assess: Executed
    publish: Executed
    reconcile: Executed

    @property
    def manifest(self) -> str:
        """The snapshot's manifest."""
        return self.snapshot.pushed["manifest"]


@pytest.fixture(scope="module")
def steps(deployment, execute, released) -> Steps:
    """The operators of classify_records, one after the other; the collection is their argument."""
    assert released.promotion.value["promoted"]
    records = [*deployment.waiting(5), deployment.failing()[0]]
    deployment.mongo[DATABASE]["given_as_argument"].insert_many(records)
    on = {"collection": "given_as_argument"}
    snapshot = execute(SnapshotRecordsOperator, **on)
    fetched = execute(FetchImagesOperator, part=snapshot.value[0], **on)
    classified = execute(ClassifyImagesOperator, images=fetched.value, **on)
    assessed = execute(
        AssessRunOperator, manifest=snapshot.pushed["manifest"], predictions=[classified.value], **on
    )
    published = execute(
        PublishPredictionsOperator,
        predictions=classified.value,
        assessment=assessed.pushed["assessment"],
        **on,
    )
    reconciled = execute(
        ReconcileRunOperator, manifest=snapshot.pushed["manifest"], outcomes=[published.value], **on
    )
    return Steps(snapshot, fetched, classified, assessed, published, reconciled)


def key_of(deployment, run_id: str, folder: str, dag_id: str) -> str:
    """The prefix of a run's objects in a folder of the bucket."""
    return f"s3://{deployment.name}/{folder}/{dag_id}/{quote(run_id, safe='')}/"


def test_a_snapshot_returns_its_parts_to_expand_over(steps) -> None:
    """One string a part."""
    assert steps.snapshot.value == [f"{steps.manifest}#0"]


def test_a_snapshot_is_below_the_key_of_its_run(deployment, steps) -> None:
    """DAG and run are in it, percent-encoded."""
    done = steps.snapshot
    folder = key_of(deployment, done.run_id, "snapshots", done.operator.dag_id)
    assert steps.manifest.startswith(folder)
    assert steps.manifest.removeprefix(f"s3://{deployment.name}/") in deployment.object_keys()


def test_fetching_returns_an_image_shard(deployment, steps) -> None:
    """Its name says the part and the digest."""
    assert f"s3://{deployment.name}/images/" in steps.fetch.value
    assert "/part-00000-" in steps.fetch.value


def test_classifying_returns_a_prediction_shard(deployment, steps) -> None:
    """Its name says the part and the digest."""
    assert f"s3://{deployment.name}/predictions/" in steps.classify.value
    assert "/part-00000-" in steps.classify.value


def test_assessing_returns_the_shards_to_expand_over(steps) -> None:
    """Publishing is mapped over them once all are assessed."""
    assert steps.assess.value == [steps.classify.value]


def test_assessing_counts_records_and_failures(deployment, steps) -> None:
    """What the failure budget is held against."""
    assessment = json.loads(deployment.read(steps.assess.pushed["assessment"]))
    assert (assessment["records"], assessment["failures"]) == (6, {"not_found": 1})


def test_publishing_returns_an_outcome_shard(deployment, steps) -> None:
    """Its name says the part and the digest."""
    assert f"s3://{deployment.name}/outcomes/" in steps.publish.value
    assert "/part-00000-" in steps.publish.value


@pytest.mark.usefixtures("steps")
def test_publishing_writes_into_the_collection_it_was_given(deployment) -> None:
    """Five predictions and one failure."""
    records = list(deployment.mongo[DATABASE]["given_as_argument"].find())
    assert sum("prediction" in record for record in records) == 5
    assert [record["_id"] for record in records if "prediction_failure" in record] == ["failing-0-not_found"]


def test_reconciling_returns_the_outcomes(steps) -> None:
    """Every outcome is named, zeros too."""
    assert steps.reconcile.value == {
        "predicted": 5,
        "quarantined": 1,
        "retry_later": 0,
        "held": 0,
        "conflict": 0,
        "gone": 0,
    }


def test_a_ledger_is_kept_for_the_run(deployment, steps) -> None:
    """Under the run of the snapshot, whichever run reconciles."""
    [ledger] = deployment.mongo[DATABASE]["mnist_ops_ledgers"].find({"manifest": steps.manifest})
    assert ledger["run"] == f"{steps.snapshot.operator.dag_id}/{quote(steps.snapshot.run_id, safe='')}"


def test_assessing_takes_the_bare_uri_of_a_single_part(execute, steps) -> None:
    """Airflow hands over the one value itself where a mapped task group ran once."""
    done = execute(AssessRunOperator, manifest=steps.manifest, predictions=steps.classify.value)
    assert done.value == [steps.classify.value]


def test_a_task_closes_its_connections(execute, steps) -> None:
    """What a task opened is not left to the garbage collector."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        execute(AssessRunOperator, manifest=steps.manifest, predictions=[steps.classify.value])
        gc.collect()
    unclosed = [str(one.message).splitlines()[0] for one in caught if one.category is ResourceWarning]
    assert unclosed == []


# What fails


def test_a_permanent_error_fails_the_task_at_once(execute) -> None:
    """Retries would only repeat it."""
    done = execute(FetchImagesOperator, part="not a part")
    assert isinstance(done.error, AirflowFailException)


def test_a_failed_task_says_what_was_wrong(deployment, execute) -> None:
    """The words are the library's own."""
    missing = f"s3://{deployment.name}/images/none.parquet"
    done = execute(ClassifyImagesOperator, images=missing)
    assert missing in str(done.error)


def test_a_missing_object_fails_the_task_at_once(deployment, execute) -> None:
    """No retry brings it back."""
    missing = f"s3://{deployment.name}/images/run/0/part-00000-{'0' * 64}.parquet"
    done = execute(ClassifyImagesOperator, images=missing)
    assert isinstance(done.error, AirflowFailException)
    assert missing in str(done.error)


def test_a_peer_that_does_not_answer_leaves_the_task_to_its_retries(execute, steps) -> None:
    """A transient error is no reason to give up."""
    nobody = {"conn_type": "aws", "login": "a", "password": "longer than five", "extra": {}}
    nobody["extra"] = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_AWS_NOBODY", json.dumps(nobody))
        done = execute(FetchImagesOperator, part=steps.snapshot.value[0], aws_conn_id="aws_nobody")
    assert done.state == "failed"
    assert not isinstance(done.error, AirflowFailException)


def test_a_window_that_ends_before_it_begins_is_refused_with_its_fields(execute) -> None:
    """The form's schema looks at one field at a time."""
    done = execute(SnapshotRecordsOperator, since="2026-02-01T00:00:00Z", until="2026-01-01T00:00:00Z")
    assert isinstance(done.error, AirflowFailException)
    assert "since" in str(done.error)
    assert "until" in str(done.error)


@pytest.mark.parametrize(
    ("name", "value"), [("since", "yesterday"), ("reclassify", "sometimes"), ("limit", 0)]
)
def test_a_bad_argument_fails_the_task_at_once_with_its_name(execute, name, value) -> None:
    """Where no form has refused it before: in a DAG of somebody's own."""
    done = execute(SnapshotRecordsOperator, **{name: value})
    assert isinstance(done.error, AirflowFailException), repr(done.error)
    assert name in str(done.error)


@pytest.mark.parametrize(("name", "value"), [("bucket", "x"), ("collection", "$where"), ("prefix", "/a/")])
def test_a_bad_setting_fails_the_task_at_once_with_its_name(execute, name, value) -> None:
    """An argument that could not be used anyway is not tried again."""
    done = execute(SnapshotRecordsOperator, **{name: value})
    assert isinstance(done.error, AirflowFailException), repr(done.error)
    assert name in str(done.error)


def test_reconciling_without_a_manifest_fails(execute) -> None:
    """The snapshot left none, so the run is not accounted for."""
    done = execute(ReconcileRunOperator, manifest=None, outcomes=None)
    assert isinstance(done.error, AirflowFailException)
    assert "manifest" in str(done.error)


def test_reconciling_without_a_parts_outcomes_fails_with_the_numbers(execute, steps) -> None:
    """A part that failed makes the run red."""
    done = execute(ReconcileRunOperator, manifest=steps.manifest, outcomes=[])
    assert isinstance(done.error, AirflowFailException)
    assert "selected 6 records" in str(done.error)
    assert "no outcome of part 0" in str(done.error)


def test_reconciling_a_preview_is_skipped(execute) -> None:
    """Nothing was written, so there is no ledger."""
    assert execute(ReconcileRunOperator, manifest=None, outcomes=None, preview=True).state == "skipped"


# Previews, and runs of other DAGs


@pytest.fixture(scope="module")
def preview(deployment, execute) -> Executed:
    """A preview over four waiting records."""
    deployment.mongo[DATABASE]["previewed"].insert_many(deployment.waiting(4))
    return execute(SnapshotRecordsOperator, preview=True, collection="previewed")


def test_a_preview_is_skipped(preview) -> None:
    """So is all that follows."""
    assert preview.state == "skipped"


def test_a_preview_says_how_many_records_would_be_taken(preview) -> None:
    """In the task's log."""
    assert "4 records would be taken" in preview.log


def test_a_preview_pushes_its_count_and_a_note_and_no_manifest(preview) -> None:
    """There is no snapshot."""
    assert (preview.value, preview.pushed.keys(), preview.pushed["count"]) == (None, {"count", "note"}, 4)


@pytest.mark.usefixtures("released")
def test_a_manual_run_of_a_dag_without_a_cron_timetable_takes_all_that_waits(deployment, execute) -> None:
    """People put the operators into DAGs of other schedules, and start them for a logical date."""
    deployment.mongo[DATABASE]["every_other_day"].insert_many(deployment.waiting(3))
    done = execute(
        SnapshotRecordsOperator,
        collection="every_other_day",
        logical_date=datetime(2026, 1, 1, tzinfo=UTC),
        schedule=DeltaDataIntervalTimetable(timedelta(days=2)),
    )
    assert done.error is None
    assert json.loads(deployment.read(done.pushed["manifest"]))["parts"][0]["records"] == 3
