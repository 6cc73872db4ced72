"""What the team asks of every DAG and operator, and the shape of the two DAGs."""

import inspect
import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pendulum
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import (
    Asset,
    AssetAll,
    AssetOrTimeSchedule,
    BaseOperator,
    CronDataIntervalTimetable,
    TriggerRule,
)
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction

import mnist_airflow.operators
from mnist_airflow.assets import MODEL_PROMOTED, MODEL_RELEASED, RECORDS_ARRIVED, RECORDS_LABELLED
from mnist_airflow.operators import approval, instances, records, snapshot, training
from mnist_airflow.operators.base import MnistOpsOperator
from mnist_airflow.run_notes import OPERATORS as OPERATORS_OF_NOTES
from mnist_airflow.triggers.records_arrived import RecordsArrivedTrigger
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.selection import Reclassify, parse_reclassify
from mnist_ops.settings import Settings
from mnist_ops.vision.config.schema import Optimizer, TrainingConfig

DAG_IDS = ("classify_records", "train_lenet")
MACHINE = [instances.StartTrainingInstanceOperator, instances.StopTrainingInstanceOperator]
OPERATORS = [getattr(mnist_airflow.operators, name) for name in mnist_airflow.operators.__all__] + MACHINE
STEPS = [operator for operator in OPERATORS if issubclass(operator, MnistOpsOperator)]
POOLS = {"default_pool", "gpu"}
QUEUES = {"default", "gpu"}
EVERY_TASK = [
    *(("classify_records", task) for task in ("snapshot", "part.fetch", "part.classify", "assess")),
    *(("classify_records", task) for task in ("publish", "reconcile")),
    *(("train_lenet", task) for task in ("plan", "snapshot", "fetch", "build_dataset", "train")),
    *(("train_lenet", task) for task in ("choose", "evaluate", "release", "approve", "promote")),
    *(("train_lenet", task) for task in ("start_instance", "stop_instance")),
]


@pytest.fixture(params=DAG_IDS)
def dag(request, dags):
    """Each DAG in turn."""
    return dags[request.param]


@pytest.fixture(params=EVERY_TASK, ids=".".join)
def task(request, dags):
    """Each task in turn."""
    dag_id, task_id = request.param
    return dags[dag_id].get_task(task_id)


@pytest.fixture(params=OPERATORS, ids=lambda operator: operator.__name__)
def operator(request):
    """Each operator in turn."""
    return request.param


# The DAGs


def test_these_tests_know_every_dag_and_task(dags) -> None:
    """A DAG or task that is added is held to the policy too."""
    assert [(dag_id, task_id) for dag_id in sorted(dags) for task_id in dags[dag_id].task_ids] == EVERY_TASK


def test_a_dag_explains_itself(dag) -> None:
    """Its page in the UI says what it does."""
    assert dag.doc_md
    assert len(dag.doc_md.split()) > 50


def test_a_dag_is_tagged(dag) -> None:
    """People find the project's DAGs by one tag, and each by its purpose."""
    assert "mnist-ops" in dag.tags
    assert len(dag.tags) > 1


def test_classify_records_has_data_intervals(dags) -> None:
    """A plain cron string gives windows of zero length in Airflow 3."""
    assert isinstance(dags["classify_records"].timetable.timetable, CronDataIntervalTimetable)


def test_classify_records_also_runs_when_records_arrive(dags) -> None:
    """The clock is the net below: it finds what no event told of."""
    timetable = dags["classify_records"].timetable
    assert isinstance(timetable, AssetOrTimeSchedule)
    assert timetable.asset_condition == AssetAll(RECORDS_ARRIVED)


def test_the_asset_graph_leads_from_the_promoted_model_to_the_labels(dags) -> None:
    """The snapshot pins the champion."""
    classify = dags["classify_records"]
    assert classify.get_task("snapshot").inlets == [MODEL_PROMOTED]
    assert classify.get_task("reconcile").outlets == [RECORDS_LABELLED]


def test_classify_records_can_be_backfilled(dags) -> None:
    """The events do not take its data intervals away."""
    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dags["classify_records"]))
    day = pendulum.datetime(2026, 1, 30, tz="UTC")
    infos = list(dag.iter_dagrun_infos_between(day, day.add(days=1)))
    assert [info.data_interval.start for info in infos] == [day, day.add(days=1)]
    assert dag.timetable.periodic


def test_the_trigger_of_arriving_records_is_made_again_from_what_the_scheduler_stores() -> None:
    """Airflow stores its class and its arguments as JSON; the triggerer makes the trigger of them."""
    trigger = RecordsArrivedTrigger(database="mnist", collection="records", interval_s=5.0)
    path, arguments = trigger.serialize()
    made = import_string(path)(**json.loads(json.dumps(arguments)))
    assert made.serialize() == trigger.serialize()
    assert arguments["interval_s"] == 5.0


def test_classify_records_is_due_when_the_settings_say(dags, monkeypatch) -> None:
    """Daily by default; another schedule is read where the DAG's file is parsed, and an empty one is none."""
    default = Settings.model_fields["classify_schedule"].default
    by_clock = dags["classify_records"].timetable.timetable
    assert by_clock == CronDataIntervalTimetable(default, timezone="UTC")
    monkeypatch.setenv("MNIST_OPS_WATCH", "False")  # leaves the clock alone
    for given, expected in (("*/10 * * * *", "*/10 * * * *"), ("", default)):
        monkeypatch.setenv("MNIST_OPS_CLASSIFY_SCHEDULE", given)
        parsed = DagBag(dag_folder=str(Path(dags["classify_records"].fileloc))).dags["classify_records"]
        assert parsed.timetable == CronDataIntervalTimetable(expected, timezone="UTC")


SUNDAY = pendulum.datetime(2026, 11, 29, tz="UTC")
WEEK = timedelta(weeks=1)


def training_due(dag, monkeypatch, now: datetime, last: datetime | None = None) -> datetime:
    """When the scheduler starts the next run of train_lenet by itself.

    Args:
        dag: train_lenet.
        monkeypatch: sets the time.
        now: the time; the DAG is unpaused already.
        last: when the last scheduled run was due; None if there was none.
    """
    monkeypatch.setattr("airflow.timetables.trigger.utcnow", lambda: now)
    timetable = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).timetable
    found = timetable.next_dagrun_info(
        last_automated_data_interval=None if last is None else DataInterval(last - WEEK, last),
        restriction=TimeRestriction(earliest=dag.start_date, latest=dag.end_date, catchup=dag.catchup),
    )
    return found.run_after


@pytest.mark.parametrize("passed", [timedelta(minutes=11), timedelta(hours=5), timedelta(days=6.9)])
def test_unpausing_train_lenet_starts_no_run_before_the_next_sunday(dags, monkeypatch, passed) -> None:
    """Somebody who tries it out asks for a run, and wants no second one beside it."""
    assert training_due(dags["train_lenet"], monkeypatch, SUNDAY + passed) == SUNDAY + WEEK


def test_the_first_training_of_the_schedule_comes_also_if_the_scheduler_is_late(dags, monkeypatch) -> None:
    """The DAG's file is read every half minute, perhaps between midnight and the scheduler's next look."""
    late = SUNDAY + timedelta(seconds=40)
    assert training_due(dags["train_lenet"], monkeypatch, late) == SUNDAY


@pytest.mark.parametrize("passed", [timedelta(seconds=1), timedelta(days=3)])
def test_a_training_comes_every_sunday(dags, monkeypatch, passed) -> None:
    """Each run is followed by the next one."""
    now = SUNDAY + passed
    assert training_due(dags["train_lenet"], monkeypatch, now, last=SUNDAY) == SUNDAY + WEEK


def test_a_training_that_was_missed_while_airflow_was_down_is_made_up_for(dags, monkeypatch) -> None:
    """Once, however many were missed."""
    now = SUNDAY + timedelta(days=1)
    assert training_due(dags["train_lenet"], monkeypatch, now, last=SUNDAY - 3 * WEEK) == SUNDAY


def test_a_dag_does_not_catch_up_by_itself(dag) -> None:
    """History is taken by a backfill, which somebody asks for."""
    assert dag.catchup is False


def test_a_dag_limits_its_runs(dags) -> None:
    """Windows of a backfill may go side by side; trainings would only repeat each other."""
    assert 1 < dags["classify_records"].max_active_runs <= 16
    assert dags["train_lenet"].max_active_runs == 1


def test_a_dag_renders_its_params_as_they_are(dag) -> None:
    """A number in the form reaches the operator as a number."""
    assert dag.render_template_as_native_obj is True


# Its tasks


def test_a_task_has_an_owner(task) -> None:
    """Not Airflow's default one."""
    assert task.owner == "mnist-ops"


def test_a_task_is_tried_again(task) -> None:
    """A peer that does not answer for a moment costs no run."""
    assert task.retries >= 1


def test_a_task_waits_longer_after_each_attempt_up_to_a_cap(task) -> None:
    """Back-off is exponential and bounded."""
    assert float(task.retry_exponential_backoff) > 1
    assert timedelta(0) < task.retry_delay < task.max_retry_delay <= timedelta(hours=1)


def test_a_task_cannot_hang_for_ever(task) -> None:
    """Each has a time limit."""
    assert timedelta(0) < task.execution_timeout <= timedelta(days=1)


def test_a_task_uses_only_pools_and_queues_that_are_set_up(task) -> None:
    """A task in a pool that does not exist, or in a queue without a worker, never starts."""
    assert task.pool in POOLS
    assert task.queue in QUEUES


def test_training_takes_its_turn_at_the_gpu(dags) -> None:
    """The pool serialises trainings of several runs, the queue finds the machine."""
    train = dags["train_lenet"].get_task("train")
    assert (train.pool, train.queue) == ("gpu", "gpu")


def test_classifying_needs_no_gpu(dags) -> None:
    """All tasks of classify_records run on default workers."""
    assert {(task.pool, task.queue) for task in dags["classify_records"].tasks} == {
        ("default_pool", "default")
    }


# Its params


def validated(dag, **conf: object):
    """The params of a run with this configuration, as the scheduler's copy of the DAG takes them."""
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    return serialized.params.deep_merge(conf).validate()


def test_a_param_is_typed_and_described(dag) -> None:
    """The UI makes a form of it."""
    assert len(dag.params) > 0
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema.get("type"), name
        assert param.schema.get("title"), name
        assert param.description, name


def test_the_defaults_are_valid(dag) -> None:
    """A scheduled run takes them as they are."""
    assert validated(dag) == dag.params.dump()


@pytest.mark.parametrize(
    ("dag_id", "name", "value"),
    [
        ("classify_records", "reclassify", "sometimes"),
        ("classify_records", "reclassify", None),
        ("classify_records", "reclassify", "never please"),
        ("classify_records", "reclassify", "failed:"),
        ("classify_records", "reclassify", "failed:notfound"),
        ("classify_records", "reclassify", "failed:not_found,"),
        ("classify_records", "reclassify", "all:not_found"),
        ("classify_records", "limit", 0),
        ("classify_records", "limit", -1),
        ("classify_records", "limit", "ten"),
        ("classify_records", "limit", 1.5),
        ("classify_records", "limit", True),
        ("classify_records", "since", "yesterday"),
        ("classify_records", "since", "2026-02-30T00:00:00Z"),
        ("classify_records", "since", 20260131),
        ("classify_records", "until", "31.1.2026"),
        ("classify_records", "dry_run", "maybe"),
        ("classify_records", "dry_run", 1),
        ("classify_records", "dry_run", None),
        ("train_lenet", "epochs", 0),
        ("train_lenet", "epochs", 1001),
        ("train_lenet", "epochs", "many"),
        ("train_lenet", "epochs", 1.5),
        ("train_lenet", "batch_size", 0),
        ("train_lenet", "learning_rate", 0),
        ("train_lenet", "learning_rate", 11),
        ("train_lenet", "learning_rate", "fast"),
        ("train_lenet", "optimizer", "rmsprop"),
        ("train_lenet", "seed", -1),
        ("train_lenet", "config", "epochs=3"),
        ("train_lenet", "config", [{"epochs": 3}]),
        ("train_lenet", "sweep", [[3, 5]]),
        ("train_lenet", "sweep", {"epochs": 3}),
        ("train_lenet", "sweep", {"epochs": []}),
        ("train_lenet", "require_approval", "yes"),
        ("train_lenet", "require_approval", None),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_field(dags, dag_id, name, value) -> None:
    """The form and the API say which field is wrong."""
    with pytest.raises(ParamValidationError, match=rf"\b{name}\b"):
        validated(dags[dag_id], **{name: value})


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("classify_records", {"since": "2026-01-31T00:00:00Z", "until": "2026-02-01T12:30:00.5+01:00"}),
        ("classify_records", {"limit": 1}),
        *(("classify_records", {"reclassify": mode}) for mode in Reclassify),
        *(("classify_records", {"reclassify": f"failed:{reason}"}) for reason in Reason),
        ("classify_records", {"reclassify": "failed: not_found, blocked_address"}),
        ("classify_records", {"dry_run": True}),
        ("train_lenet", {"epochs": 1, "batch_size": 65536, "seed": 0}),
        *(("train_lenet", {"optimizer": optimizer}) for optimizer in (*Optimizer, None)),
        *(("train_lenet", {"learning_rate": rate}) for rate in (0.001, 10, None)),
        ("train_lenet", {"config": {"network": "mnistnet"}, "require_approval": True}),
        ("train_lenet", {"sweep": {"kernel_sizes": [[3, 3], [5, 5]], "seed": [1, 2]}}),
    ],
)
def test_a_good_value_is_taken(dags, dag_id, conf) -> None:
    """It arrives as it was given."""
    assert validated(dags[dag_id], **conf).items() >= conf.items()


def test_the_form_and_the_selection_agree_on_reclassify(dags) -> None:
    """Whatever the form proposes or takes can be parsed."""
    param = dags["classify_records"].params.get_param("reclassify")
    for text in (*param.schema["examples"], "failed: not_found, blocked_address"):
        assert validated(dags["classify_records"], reclassify=text)["reclassify"] == text
        parse_reclassify(text)


def test_the_form_explains_every_choice_of_reclassify(dags) -> None:
    """And what a backfill needs, in the words of Airflow's dialog."""
    described = dags["classify_records"].params.get_param("reclassify").description
    for said in (*Reclassify, "failed:not_found,blocked_address", "Override parameters on existing runs"):
        assert said in described
        assert said in dags["classify_records"].doc_md


def test_the_form_and_the_training_agree_on_what_is_allowed(dags) -> None:
    """Every field that the form has for a hyperparameter takes what the training takes."""
    properties = TrainingConfig.model_json_schema()["properties"]
    for name in set(dags["train_lenet"].params) - {"config", "sweep", "require_approval"}:
        schema = dags["train_lenet"].params.get_param(name).schema
        for bound in ("minimum", "exclusiveMinimum", "maximum"):
            if bound in schema:
                assert schema[bound] == properties[name][bound], name


def test_the_form_shows_the_default_of_a_hyperparameter(dags) -> None:
    """By its value; an empty choice would be shown as "null"."""
    params = dags["train_lenet"].params
    for name in ("epochs", "batch_size", "learning_rate", "seed"):
        default = TrainingConfig.model_fields[name].default
        assert f"empty for the default, {default}." in params.get_param(name).description
    schema = params.get_param("optimizer").schema
    assert schema["enum"] == [None, *Optimizer]
    default = TrainingConfig.model_fields["optimizer"].default
    assert schema["values_display"] == {None: f"default ({default})"} | {name: name for name in Optimizer}


# Their shape


def arrows(dag) -> set[tuple[str, str]]:
    """The dependencies of a DAG's tasks."""
    return {(task.task_id, later) for task in dag.tasks for later in task.downstream_task_ids}


def test_classify_records_goes_from_the_snapshot_to_the_ledger(dags) -> None:
    """Nothing is published before all parts are assessed."""
    assert arrows(dags["classify_records"]) == {
        ("snapshot", "part.fetch"),
        ("part.fetch", "part.classify"),
        ("part.classify", "assess"),
        ("snapshot", "assess"),
        ("assess", "publish"),
        ("publish", "reconcile"),
        ("snapshot", "reconcile"),
    }


def test_fetching_and_classifying_are_mapped_over_the_parts_together(dags) -> None:
    """A part is classified as soon as it is fetched, whatever the others do."""
    fetching, classifying = (
        dags["classify_records"].get_task(f"part.{name}").get_closest_mapped_task_group()
        for name in ("fetch", "classify")
    )
    assert fetching is classifying
    assert fetching.group_id == "part"


def test_publishing_is_mapped_and_assessing_is_not(dags) -> None:
    """One decision over all parts, then each part by itself."""
    dag = dags["classify_records"]
    mapped = {task.task_id: task.is_mapped for task in dag.tasks if task.task_group.group_id is None}
    assert mapped == {"snapshot": False, "assess": False, "publish": True, "reconcile": False}


def test_the_ledger_is_drawn_up_last_whatever_happened(dags) -> None:
    """Reconcile is the only leaf, so it alone decides the run's state."""
    dag = dags["classify_records"]
    assert [leaf.task_id for leaf in dag.leaves] == ["reconcile"]
    assert dag.get_task("reconcile").trigger_rule == TriggerRule.ALL_DONE


def test_no_other_task_hides_a_failure(dags) -> None:
    """Every task but reconcile and the teardown needs all before it to succeed."""
    excepted = {"reconcile", "stop_instance"}
    others = [task for dag in dags.values() for task in dag.tasks if task.task_id not in excepted]
    assert {task.trigger_rule for task in others} == {TriggerRule.ALL_SUCCESS}


WORK = {"train", "choose", "evaluate", "release"}  # what needs the machine


def test_train_lenet_goes_from_the_plan_to_the_promotion(dags) -> None:
    """One way, but for the machine that is started and stopped."""
    machine = {"start_instance", "stop_instance"}
    assert {arrow for arrow in arrows(dags["train_lenet"]) if machine.isdisjoint(arrow)} == {
        ("plan", "snapshot"),
        ("snapshot", "fetch"),
        ("fetch", "build_dataset"),
        ("plan", "train"),
        ("train", "choose"),
        ("choose", "evaluate"),
        ("evaluate", "release"),
        ("release", "approve"),
        ("approve", "promote"),
    }


def test_no_arrow_of_train_lenet_says_what_others_say_already(dags) -> None:
    """Its graph is read as one way.

    Excepted are those into the teardown, which it waits for one by one, and the one from the plan, since
    Airflow draws it from what a task is expanded over.
    """
    dag = dags["train_lenet"]
    shown = {arrow for arrow in arrows(dag) if arrow[1] != "stop_instance"}
    longer_ways = {
        (first, later)
        for first, second in shown
        for later in dag.get_task(second).get_flat_relative_ids(upstream=False)
    }
    assert shown & longer_ways == {("plan", "train")}


def test_parts_are_fetched_and_trials_trained_side_by_side(dags) -> None:
    """Each is a mapped task."""
    assert {task.task_id for task in dags["train_lenet"].tasks if task.is_mapped} == {"fetch", "train"}


def test_a_trial_is_named_for_what_is_swept(dags) -> None:
    """Its number alone tells nobody what it is."""
    assert dags["train_lenet"].get_task("train").map_index_template == "{{ trial }}"


def test_the_machine_is_started_once_there_is_something_to_train_on(dags) -> None:
    """Fetching takes time and needs no GPU."""
    start = dags["train_lenet"].get_task("start_instance")
    assert start.is_setup
    assert start.upstream_task_ids == {"build_dataset"}
    assert start.get_flat_relative_ids(upstream=False) >= WORK | {"stop_instance"}


def test_the_machine_is_stopped_after_all_that_needs_it_and_before_anybody_is_asked(dags) -> None:
    """Each task by itself: where one training fails, the others may still be running."""
    stop = dags["train_lenet"].get_task("stop_instance")
    assert stop.is_teardown
    assert stop.upstream_task_ids == WORK | {"start_instance"}
    assert not stop.downstream_task_ids
    on_gpu = {task.task_id for task in dags["train_lenet"].tasks if task.queue == "gpu"}
    assert on_gpu == WORK


def test_a_machine_that_was_not_stopped_turns_the_run_red(dags) -> None:
    """It costs money; so it is tried for longer, too."""
    stop = dags["train_lenet"].get_task("stop_instance")
    assert stop.on_failure_fail_dagrun
    assert stop.retries > dags["train_lenet"].get_task("train").retries


def test_a_question_to_a_person_is_answered_with_no_after_a_while(dags) -> None:
    """Otherwise one run that everybody forgot would keep the next ones waiting."""
    approve = dags["train_lenet"].get_task("approve")
    assert approve.response_timeout <= timedelta(days=7)
    assert approve.defaults == [approve.REJECT]


@pytest.mark.parametrize(
    ("dag_id", "assets"),
    [
        ("classify_records", {"reconcile": [RECORDS_LABELLED]}),
        ("train_lenet", {"release": [MODEL_RELEASED], "promote": [MODEL_PROMOTED]}),
    ],
)
def test_the_rest_of_airflow_is_told(dags, dag_id, assets) -> None:
    """Other DAGs can wait for records that were labelled, a model that was released, a new champion."""
    outlets = {task.task_id: task.outlets for task in dags[dag_id].tasks if task.outlets}
    assert outlets == assets
    assert all(isinstance(asset, Asset) for [asset] in assets.values())


# The operators


def own_arguments(operator: type[BaseOperator]) -> set[str]:
    """The arguments that an operator adds."""
    return set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}


def documented_arguments(operator: type[BaseOperator]) -> set[str]:
    """The arguments that an operator's docstring describes."""
    section = inspect.cleandoc(operator.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^    (\w+): \S", section, re.MULTILINE)) - {"kwargs"}


def test_every_operator_is_exported() -> None:
    """`from mnist_airflow.operators import …` knows all of them."""
    defined = {
        name
        for module in (approval, records, snapshot, training)
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }
    assert set(mnist_airflow.operators.__all__) == defined
    assert len(defined) == 14


def test_the_note_of_a_run_reads_what_every_operator_says() -> None:
    """An operator that is added is read too; others' XComs are not."""
    assert {operator.__name__ for operator in OPERATORS} == OPERATORS_OF_NOTES


@pytest.mark.parametrize("operator", [MnistOpsOperator, *OPERATORS], ids=lambda operator: operator.__name__)
def test_an_operator_documents_each_of_its_arguments(operator) -> None:
    """No argument is left out, and none is described that is gone."""
    assert documented_arguments(operator) == own_arguments(operator)


def test_an_operator_says_what_it_does_in_one_line(operator) -> None:
    """The first line of its docstring is a sentence."""
    assert (operator.__doc__ or "").splitlines()[0].endswith(".")


@pytest.mark.parametrize("operator", STEPS, ids=lambda operator: operator.__name__)
def test_an_operator_takes_connections_collection_and_keys_as_templates(operator) -> None:
    """People build their own DAGs from the operators."""
    assert set(operator.template_fields) >= own_arguments(MnistOpsOperator)


@pytest.mark.parametrize(
    ("name", "uris"),
    [
        ("FetchImagesOperator", {"part"}),
        ("ClassifyImagesOperator", {"images"}),
        ("AssessRunOperator", {"manifest", "predictions"}),
        ("PublishPredictionsOperator", {"predictions", "assessment"}),
        ("ReconcileRunOperator", {"manifest", "outcomes"}),
        ("BuildDatasetOperator", {"manifest", "images"}),
        ("PlanTrainingsOperator", {"config", "fields", "sweep"}),
        ("TrainModelOperator", {"dataset", "config", "swept"}),
        ("ChooseTrainingOperator", {"manifest", "trainings"}),
        ("EvaluateModelOperator", {"training"}),
        ("ReleaseModelOperator", {"evaluation"}),
        ("ApprovePromotionOperator", {"gate_result", "required"}),
        ("PromoteModelOperator", {"gate_result", "approval"}),
        ("StartTrainingInstanceOperator", {"instance_id"}),
        ("StopTrainingInstanceOperator", {"instance_id"}),
    ],
)
def test_an_operator_receives_in_template_fields_what_other_tasks_return(name, uris) -> None:
    """What XCom carries is rendered before the task runs."""
    [operator] = [each for each in OPERATORS if each.__name__ == name]
    assert set(operator.template_fields) >= uris


def test_a_template_field_is_an_argument(operator) -> None:
    """There is none that Airflow would look for in vain."""
    known = set().union(*(own_arguments(base) for base in operator.__mro__ if issubclass(base, BaseOperator)))
    assert set(operator.template_fields) <= known
