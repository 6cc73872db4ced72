"""Backfills yield to live runs: what Airflow's own scheduler makes of the policy, on its real objects."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from airflow import settings
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.executors.base_executor import BaseExecutor
from airflow.executors.executor_utils import ExecutorName
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.backfill import ReprocessBehavior, _create_backfill
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.models.taskmap import TaskMap
from airflow.models.xcom import XComModel
from airflow.sdk import DAG, BaseOperator, CronDataIntervalTimetable
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import delete, select, text, update

from mnist_airflow import backfills, removed_tasks
from mnist_airflow.operators import FetchImagesOperator

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
PARTS = 3
SLOTS = 2


class Listing(BaseOperator):
    """In place of the snapshot: returns what the next task is mapped over."""


class Working(BaseOperator):
    """An operator of other people, for one part."""

    def __init__(self, *, part: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.part = part


class Slots(BaseExecutor):
    """An executor that is asked for free slots only."""

    def __init__(self, parallelism: int) -> None:
        super().__init__(parallelism=parallelism)
        self.name = ExecutorName(module_path="tests", alias="slots")


@pytest.fixture(scope="module")
def database() -> None:
    """Airflow's metadata, with the pools that the stack makes."""
    initdb()
    DagBundlesManager().sync_bundles_to_db()


@pytest.fixture(autouse=True)
def pools(database) -> Iterator[None]:  # noqa: ARG001 (they are rows in it)
    """The pools `backfill` and `gpu`."""
    with create_session() as session:
        for name in (backfills.POOL, "gpu"):
            pool = Pool.create_or_update_pool(name, SLOTS, "", include_deferred=False, session=session)
            assert pool.slots == SLOTS
    yield
    with create_session() as session:
        for run in session.scalars(select(DagRun)):
            run.state = DagRunState.FAILED
        session.execute(delete(Pool).where(Pool.pool == backfills.POOL))


@pytest.fixture
def dag(request) -> SerializedDAG:
    """A DAG of three tasks as the scheduler knows it: one mapped, one in a pool of its own."""
    return written_dag(re.sub(r"\W", "-", request.node.name), getattr(request, "param", FetchImagesOperator))


def written_dag(dag_id: str, mapped: type[BaseOperator], *more: str) -> SerializedDAG:
    """Write that DAG, or a new version of it that has more tasks."""
    timetable = CronDataIntervalTimetable("@daily", timezone="UTC")
    with DAG(dag_id, schedule=timetable, start_date=FIRST, catchup=False) as written:
        listing = Listing(task_id="list")
        mapped.partial(task_id="work", retries=1).expand(part=listing.output)
        Listing(task_id="train", pool="gpu")
        for task_id in more:
            Listing(task_id=task_id)
    with create_session() as session:
        lazy = LazyDeserializedDAG.from_dag(written)
        SerializedDAG.bulk_write_to_db("dags-folder", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="dags-folder", session=session)
        session.get(DagModel, dag_id).is_paused = False
    with create_session() as session:
        return session.scalar(SerializedDagModel.latest_item_select_object(dag_id)).dag


def live(dag: SerializedDAG, day: datetime = FIRST, state: DagRunState = DagRunState.RUNNING) -> str:
    """Make a run of the schedule; its id."""
    with create_session() as session:
        return dag.create_dagrun(
            run_id=f"scheduled__{day:%Y-%m-%d}",
            logical_date=day,
            data_interval=(day, day + DAY),
            run_after=day + DAY,
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TIMETABLE,
            state=state,
            session=session,
        ).run_id


def backfill(dag: SerializedDAG, days: int = 1, runs: int = 10) -> list[str]:
    """Backfill from the first day on, as the REST API does, completed runs too; the ids of the runs."""
    made = _create_backfill(
        dag_id=dag.dag_id,
        from_date=FIRST,
        to_date=FIRST + DAY * (days - 1),
        max_active_runs=runs,
        reverse=False,
        dag_run_conf=None,
        triggering_user_name="the tests",
        reprocess_behavior=ReprocessBehavior.COMPLETED,
    )
    with create_session() as session:
        found = select(DagRun.run_id).where(DagRun.backfill_id == made.id).order_by(DagRun.logical_date)
        return list(session.scalars(found))


def start(parallelism: int = 32) -> SchedulerJobRunner:
    """Start the runs that are queued, as the scheduler does."""
    scheduler = SchedulerJobRunner(Job(), executors=[Slots(parallelism)])
    with create_session() as session:
        scheduler._start_queued_dagruns(session)
    return scheduler


def listed(dag: SerializedDAG, run_id: str, parts: int = PARTS) -> None:
    """Let `list` have found three parts, and let the scheduler decide what comes next."""
    where = {"dag_id": dag.dag_id, "task_id": "list", "run_id": run_id}
    with create_session() as session:
        session.scalar(select(TaskInstance).filter_by(**where)).state = TaskInstanceState.SUCCESS
        XComModel.set(key="return_value", value=list(range(parts)), **where, session=session)
        session.merge(TaskMap(**where, map_index=-1, length=parts, keys=None))
    decide(dag, run_id)


def decide(dag: SerializedDAG, run_id: str) -> None:
    """Expand what can be, and schedule what is ready."""
    with create_session() as session:
        run = session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id, run_id=run_id))
        run.dag = dag
        ready, _ = run.update_state(session=session, execute_callbacks=False)
        run.schedule_tis(ready, session=session)


def pools_and_priorities(dag: SerializedDAG, run_id: str) -> dict[tuple[str, int], tuple[str, int]]:
    """Pool and priority of a run's task instances, by task and map index."""
    with create_session() as session:
        found = session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run_id))
        return {(one.task_id, one.map_index): (one.pool, one.priority_weight) for one in found}


def test_airflow_has_loaded_the_policy() -> None:
    """It is found on the path, as in the scheduler; otherwise Airflow makes task instances without it."""
    assert settings.task_instance_mutation_hook.is_noop is False


def test_a_backfills_tasks_have_a_pool_and_a_priority_of_their_own(dag) -> None:
    """From the moment on that Airflow makes them, those that are not expanded yet included."""
    (run_id,) = backfill(dag)
    assert pools_and_priorities(dag, run_id) == {
        ("list", -1): ("backfill", 0),
        ("work", -1): ("backfill", 0),
        ("train", -1): ("gpu", 0),
    }


def test_a_live_runs_tasks_are_left_as_they_are(dag) -> None:
    """The default pool, and a weight of one for itself and each task after it."""
    run_id = live(dag)
    listed(dag, run_id)
    assert pools_and_priorities(dag, run_id) == {
        ("list", -1): ("default_pool", 2),
        **{("work", number): ("default_pool", 1) for number in range(PARTS)},
        ("train", -1): ("gpu", 1),
    }


def test_mapped_tasks_of_a_backfill_are_expanded_into_its_pool(dag) -> None:
    """The first one was the only task instance before the expansion; the others are new."""
    (run_id,) = backfill(dag)
    start()
    listed(dag, run_id)
    found = pools_and_priorities(dag, run_id)
    assert {found["work", number] for number in range(PARTS)} == {("backfill", 0)}


def test_a_cleared_task_of_a_backfill_stays_in_its_pool(dag) -> None:
    """Clearing copies the task's own pool and weight first."""
    (run_id,) = backfill(dag)
    with create_session() as session:
        instances = list(session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run_id)))
        for instance in instances:
            instance.state = TaskInstanceState.FAILED
            instance.pool, instance.priority_weight = "default_pool", 7
        clear_task_instances(instances, session)
    assert set(pools_and_priorities(dag, run_id).values()) == {("backfill", 0), ("gpu", 0)}


def test_a_task_that_is_tried_again_stays_in_its_pool(dag) -> None:
    """A retry is the same task instance."""
    (run_id,) = backfill(dag)
    start()
    listed(dag, run_id)
    with create_session() as session:
        for instance in session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="work")):
            instance.state, instance.try_number = TaskInstanceState.UP_FOR_RETRY, 1
            instance.end_date = FIRST
    decide(dag, run_id)
    with create_session() as session:
        again = session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="work")).all()
        assert {one.state for one in again} == {TaskInstanceState.SCHEDULED}
        assert {(one.pool, one.priority_weight) for one in again} == {("backfill", 0)}


def test_a_scheduled_run_that_a_backfill_reprocesses_yields_as_soon_as_it_starts(dag) -> None:
    """Airflow clears its tasks while it still is a scheduled run, and makes it a backfill afterwards."""
    run_id = live(dag)
    listed(dag, run_id)
    with create_session() as session:
        for instance in session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id)):
            instance.state = TaskInstanceState.SUCCESS
        session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id)).state = DagRunState.SUCCESS
    assert backfill(dag) == [run_id]
    start()
    assert set(pools_and_priorities(dag, run_id).values()) == {("backfill", 0), ("gpu", 0)}


def test_a_live_run_that_starts_is_not_moved(dag) -> None:
    """The listener is told of every run."""
    run_id = live(dag, state=DagRunState.QUEUED)
    start()
    assert pools_and_priorities(dag, run_id)["list", -1] == ("default_pool", 2)


def test_without_the_pool_a_backfill_runs_in_the_default_one(dag, caplog) -> None:
    """In a pool that does not exist it would wait for ever; it still goes last, and the log says so."""
    with create_session() as session:
        session.execute(delete(Pool).where(Pool.pool == backfills.POOL))
    (run_id,) = backfill(dag)
    start()
    assert pools_and_priorities(dag, run_id)["list", -1] == ("default_pool", 0)
    assert "there is no pool backfill" in caplog.text


def shrink(dag: SerializedDAG, run_id: str, parts: int) -> None:
    """Let a run have found three parts, and after it was cleared only this number of them; clear it again."""
    listed(dag, run_id)
    listed_again(dag, run_id, parts)
    assert list(states(dag, run_id, "work").values()) == ["scheduled"] * parts + ["removed"] * (PARTS - parts)
    clear(dag, run_id)


def listed_again(dag: SerializedDAG, run_id: str, parts: int) -> None:
    """Let the tasks be cleared in a run that goes on, and `list` find another number of parts."""
    with create_session() as session:
        for instance in session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run_id)):
            instance.state = None
    listed(dag, run_id, parts)


def clear(dag: SerializedDAG, run_id: str) -> None:
    """End all tasks of a run, and clear it, as a person does."""
    with create_session() as session:
        instances = list(session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run_id)))
        for instance in instances:
            if instance.state != TaskInstanceState.REMOVED:
                instance.state = TaskInstanceState.SUCCESS
        session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id)).state = DagRunState.SUCCESS
    with create_session() as session:
        instances = list(session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run_id)))
        clear_task_instances([one for one in instances if one.state != TaskInstanceState.REMOVED], session)


def states(dag: SerializedDAG, run_id: str, task_id: str) -> dict[int, str | None]:
    """The states of a task's instances, by map index."""
    of_task = {"dag_id": dag.dag_id, "run_id": run_id, "task_id": task_id}
    with create_session() as session:
        found = session.scalars(select(TaskInstance).filter_by(**of_task).order_by(TaskInstance.map_index))
        return {one.map_index: one.state for one in found}


@pytest.mark.parametrize("parts", [0, 1])
def test_removed_parts_come_back_when_a_run_starts(dag, parts) -> None:
    """Airflow removes the parts that an earlier generation had too many, and would never run them again."""
    run_id = live(dag)
    shrink(dag, run_id, parts)
    start()
    assert states(dag, run_id, "work") == dict.fromkeys(range(PARTS))
    listed(dag, run_id)
    assert states(dag, run_id, "work") == dict.fromkeys(range(PARTS), "scheduled")


@pytest.mark.parametrize("parts", [0, 1])
def test_removed_parts_come_back_where_the_dag_has_changed(dag, parts) -> None:
    """Airflow then compares the parts once more after the start, with what it knows of the one before."""
    run_id = live(dag)
    shrink(dag, run_id, parts)
    changed = written_dag(dag.dag_id, FetchImagesOperator, "new")
    scheduler = start()
    with create_session() as session:
        run = session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id))
        assert scheduler._verify_integrity_if_dag_changed(dag_run=run, session=session)
    listed(changed, run_id)
    assert states(changed, run_id, "new") == {-1: "scheduled"}
    assert states(changed, run_id, "work") == dict.fromkeys(range(PARTS), "scheduled")


def test_a_group_of_tasks_that_is_mapped_is_known_by_what_it_is_mapped_over(dags) -> None:
    """`fetch` and `classify` are mapped together, `publish` by itself."""
    written = LazyDeserializedDAG.from_dag(dags["classify_records"])._real_dag
    over = {task.task_id: removed_tasks._mapped_over(task) for task in written.tasks}
    assert {name: sources for name, sources in over.items() if sources} == {
        "part.fetch": {"snapshot"},
        "part.classify": {"snapshot"},
        "publish": {"assess"},
    }


def test_parts_that_are_still_too_many_are_removed_again(dag) -> None:
    """Nothing runs that the run has no part for."""
    run_id = live(dag)
    shrink(dag, run_id, 1)
    start()
    listed(dag, run_id, 2)
    assert states(dag, run_id, "work") == {0: "scheduled", 1: "scheduled", 2: "removed"}


def test_removed_parts_stay_removed_where_the_run_does_not_list_them_again(dag) -> None:
    """A person cleared only what comes later."""
    run_id = live(dag)
    shrink(dag, run_id, 1)
    with create_session() as session:
        session.scalar(select(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="list")).state = "success"
    start()
    assert states(dag, run_id, "work") == {0: None, 1: "removed", 2: "removed"}


@pytest.mark.parametrize("dag", [Working], indirect=True)
def test_removed_tasks_of_other_peoples_operators_are_left_alone(dag) -> None:
    """The listener is told of every run of the deployment."""
    run_id = live(dag)
    shrink(dag, run_id, 1)
    start()
    assert states(dag, run_id, "work") == {0: None, 1: "removed", 2: "removed"}


def test_an_error_of_the_database_undoes_nothing_of_airflows(dag, monkeypatch, caplog) -> None:
    """The run starts, and what the listener does next is done."""

    def broken(session, dag_run) -> None:
        session.execute(update(TaskInstance).filter_by(dag_id=dag_run.dag_id).values(priority_weight=99))
        session.execute(text("SELECT * FROM no_such_table"))

    monkeypatch.setattr(removed_tasks, "restore_removed_tasks", broken)
    (run_id,) = backfill(dag)
    start()
    with create_session() as session:
        assert session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id)).state == "running"
    assert set(pools_and_priorities(dag, run_id).values()) == {("backfill", 0), ("gpu", 0)}
    assert "no such table: no_such_table" in caplog.text


def test_a_removed_part_of_a_backfill_comes_back_into_its_pool(dag) -> None:
    """It takes the slots of backfills as the others do."""
    run_id = live(dag)
    shrink(dag, run_id, 1)
    with create_session() as session:
        session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id)).run_type = DagRunType.BACKFILL_JOB
    start()
    assert pools_and_priorities(dag, run_id)["work", 1] == ("backfill", 0)


def queued_first(scheduler: SchedulerJobRunner, at_most: int) -> list[str]:
    """The runs of the task instances that the scheduler would queue next, in its order."""
    with create_session() as session:
        return [ti.run_id for ti in scheduler._executable_task_instances_to_queued(at_most, session)]


def test_a_backfill_takes_no_more_than_its_slots(dag) -> None:
    """However many of its windows are active."""
    for run_id in backfill(dag, days=6):
        start()
        decide(dag, run_id)
    run_ids = queued_first(start(), 32)
    in_pool = [run_id for run_id in run_ids if run_id.startswith("backfill")]
    # `list` in the pool of backfills, `train` in its own.
    assert len(in_pool) == SLOTS + SLOTS


def test_a_live_run_goes_before_older_windows_of_a_backfill(dag) -> None:
    """Airflow orders by priority, then by logical date: without the policy the backfill would go first."""
    late = live(dag, FIRST + 30 * DAY)
    for run_id in [*backfill(dag, days=6), late]:
        start()
        decide(dag, run_id)
    assert queued_first(start(parallelism=1), 1) == [late]


def test_a_live_run_starts_beside_a_backfill_that_has_all_its_runs(dag) -> None:
    """A backfill counts its active runs by itself."""
    assert len(backfill(dag, days=20, runs=20)) == 20
    start()
    run_id = live(dag, FIRST + 30 * DAY, DagRunState.QUEUED)
    start()
    with create_session() as session:
        assert session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id, run_id=run_id)).state == "running"


def test_no_task_has_a_limit_that_a_backfill_could_use_up(dags) -> None:
    """`max_active_tis_per_dag` counts the tasks of all runs together."""
    limits = {
        task.task_id: getattr(task, "max_active_tis_per_dag", None) for task in dags["classify_records"].tasks
    }
    assert {name: limit for name, limit in limits.items() if limit is not None} == {}
    assert dags["classify_records"].get_task("part.fetch").max_active_tis_per_dagrun == 4
