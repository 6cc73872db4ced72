"""Backfills yield to live runs: what Airflow's own scheduler makes of the policy, on its real objects."""

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
from sqlalchemy import delete, select

from mnist_airflow import backfills

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
PARTS = 3
SLOTS = 2


class Listing(BaseOperator):
    """In place of the snapshot: returns what the next task is mapped over."""


class Working(BaseOperator):
    """In place of the work on one part."""

    def __init__(self, *, number: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.number = number


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
    dag_id = request.node.name
    timetable = CronDataIntervalTimetable("@daily", timezone="UTC")
    with DAG(dag_id, schedule=timetable, start_date=FIRST, catchup=False) as written:
        listing = Listing(task_id="list")
        Working.partial(task_id="work", retries=1).expand(number=listing.output)
        Listing(task_id="train", pool="gpu")
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


def listed(dag: SerializedDAG, run_id: str) -> None:
    """Let `list` have found three parts, and let the scheduler decide what comes next."""
    where = {"dag_id": dag.dag_id, "task_id": "list", "run_id": run_id}
    with create_session() as session:
        session.scalar(select(TaskInstance).filter_by(**where)).state = TaskInstanceState.SUCCESS
        XComModel.set(key="return_value", value=list(range(PARTS)), **where, session=session)
        session.add(TaskMap(**where, map_index=-1, length=PARTS, keys=None))
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


def test_removed_parts_come_back_when_a_run_starts(dag) -> None:
    """Airflow removes the parts that an earlier generation had too many, and would never run them again."""
    run_id = live(dag)
    listed(dag, run_id)
    with create_session() as session:
        for instance in session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id)):
            instance.state = (
                TaskInstanceState.REMOVED if instance.map_index > 0 else TaskInstanceState.SUCCESS
            )
        of_no_task = session.scalar(select(TaskInstance).filter_by(dag_id=dag.dag_id, map_index=PARTS - 1))
        of_no_task.task_id = "gone"
        session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id)).state = DagRunState.QUEUED
    start()
    with create_session() as session:
        found = session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id, run_id=run_id))
        states = {(one.task_id, one.map_index): one.state for one in found}
    assert states["work", 1] is None
    assert states["gone", PARTS - 1] == "removed"
    assert states["work", 0] == states["list", -1] == "success"


def test_a_removed_part_of_a_backfill_comes_back_into_its_pool(dag) -> None:
    """It takes the slots of backfills as the others do."""
    run_id = live(dag)
    listed(dag, run_id)
    with create_session() as session:
        for instance in session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id)):
            instance.state = (
                TaskInstanceState.REMOVED if instance.map_index > 0 else TaskInstanceState.SUCCESS
            )
        run = session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id))
        run.state, run.run_type = DagRunState.QUEUED, DagRunType.BACKFILL_JOB
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
