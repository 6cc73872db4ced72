"""The note of a run: what Airflow's own scheduler makes of the listener, on its real objects."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models.dagrun import DagRun, DagRunNote
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.xcom import XComModel
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select, text

from mnist_airflow import run_notes
from mnist_airflow.operators import ReconcileRunOperator, SnapshotRecordsOperator
from mnist_airflow.run_notes import ERROR, NOTE
from tests.airflow.conftest import everything_written

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SUCCESS, FAILED, SKIPPED = TaskInstanceState.SUCCESS, TaskInstanceState.FAILED, TaskInstanceState.SKIPPED

Ended = tuple[TaskInstanceState, dict[str, object]]


@pytest.fixture(scope="module")
def database() -> None:
    """Airflow's metadata."""
    initdb()
    DagBundlesManager().sync_bundles_to_db()


@pytest.fixture
def dag(database, request) -> SerializedDAG:  # noqa: ARG001 (it is written there)
    """A DAG of two tasks as the scheduler knows it."""
    dag_id = request.node.name
    timetable = CronDataIntervalTimetable("@daily", timezone="UTC")
    with DAG(dag_id, schedule=timetable, start_date=FIRST, catchup=False) as written:
        snapshot = SnapshotRecordsOperator(task_id="snapshot")
        snapshot >> ReconcileRunOperator(task_id="reconcile", manifest=None, outcomes=None)
    with create_session() as session:
        lazy = LazyDeserializedDAG.from_dag(written)
        SerializedDAG.bulk_write_to_db("dags-folder", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="dags-folder", session=session)
    with create_session() as session:
        return session.scalar(SerializedDagModel.latest_item_select_object(dag_id)).dag


@pytest.fixture
def end(dag) -> Callable[[Ended, Ended], str | None]:
    """Ends the two tasks of the DAG's one run, lets the scheduler look at it, and returns its note."""
    with create_session() as session:
        run_id = dag.create_dagrun(
            run_id="scheduled__2026-01-01",
            logical_date=FIRST,
            data_interval=(FIRST, FIRST + timedelta(days=1)),
            run_after=FIRST + timedelta(days=1),
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TIMETABLE,
            state=DagRunState.RUNNING,
            session=session,
        ).run_id

    def ended(snapshot: Ended, reconcile: Ended) -> str | None:
        for minute, (task, (state, pushed)) in enumerate(
            {"snapshot": snapshot, "reconcile": reconcile}.items()
        ):
            end_task(dag.dag_id, run_id, task, state, FIRST + timedelta(minutes=minute))
            for key, value in pushed.items():
                XComModel.set(key=key, value=value, dag_id=dag.dag_id, task_id=task, run_id=run_id)
        return note_by_the_scheduler(dag, run_id)

    return ended


def end_task(dag_id: str, run_id: str, task: str, state: TaskInstanceState, at: datetime) -> None:
    """Give a task instance its last state."""
    with create_session() as session:
        run = session.scalar(select(DagRun).filter_by(dag_id=dag_id, run_id=run_id))
        instance = run.get_task_instance(task, session=session)
        instance.state, instance.start_date, instance.end_date = state, at, at
        run.state = DagRunState.RUNNING


def note_by_the_scheduler(dag: SerializedDAG, run_id: str) -> str | None:
    """Let a run end as in the scheduler's loop, which refuses every commit but its own; the run's note."""
    with create_session() as session, prohibit_commit(session) as guard:
        run = session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id, run_id=run_id))
        run.dag = dag
        run.update_state(session=session, execute_callbacks=False)
        assert run.state in {DagRunState.SUCCESS, DagRunState.FAILED}
        guard.commit()
    with create_session() as session:
        run = session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id, run_id=run_id))
        assert run.state in {DagRunState.SUCCESS, DagRunState.FAILED}
        return run.note


def test_the_scheduler_writes_the_note_of_a_green_run(end) -> None:
    """The ledger first, then what only the snapshot said."""
    note = end((SUCCESS, {NOTE: "3 records in 1 parts\nwindow"}), (SUCCESS, {NOTE: "3 predicted\nwindow"}))
    assert note == "MNIST Ops: 3 predicted\n- window\n- 3 records in 1 parts"


def test_the_scheduler_writes_the_note_of_a_red_run(end) -> None:
    """The task that failed, with its error."""
    error = {ERROR: "no lenet5 was released yet: run train_lenet first"}
    note = end((FAILED, error), (FAILED, {ERROR: "the snapshot left no manifest"}))
    assert note == (
        "MNIST Ops: snapshot failed: no lenet5 was released yet: run train_lenet first\n"
        "- reconcile failed: the snapshot left no manifest"
    )


def test_a_snapshot_that_only_counted_says_its_number(end) -> None:
    """It skips itself, and everything after it."""
    assert end((SKIPPED, {NOTE: "3 records would be taken"}), (SKIPPED, {})) == (
        "MNIST Ops: 3 records would be taken"
    )


def test_what_a_task_said_in_an_earlier_generation_does_not_count(end) -> None:
    """Airflow deletes it only when the task starts again, and one that is skipped does not start."""
    assert end((SUCCESS, {}), (SKIPPED, {NOTE: "of the generation before"})) is None


def test_a_run_that_is_done_again_gets_a_new_note_below_a_persons(end, dag) -> None:
    """What the person wrote stays."""
    first = end((SUCCESS, {NOTE: "3 records"}), (FAILED, {NOTE: "3 of 3 records failed"}))
    with create_session() as session:
        run = session.scalar(select(DagRun).filter_by(dag_id=dag.dag_id))
        run.note = f"Vera looks at it.\n\n{first}"
    again = end((SUCCESS, {NOTE: "3 records"}), (SUCCESS, {NOTE: "3 predicted"}))
    assert again == "Vera looks at it.\n\nMNIST Ops: 3 predicted\n- 3 records"


def test_a_run_in_which_our_operators_said_nothing_has_no_note(end) -> None:
    """It would tell nobody anything."""
    assert end((SUCCESS, {}), (SUCCESS, {"return_value": {}})) is None


def test_an_error_in_the_listener_is_logged_and_undoes_nothing_of_airflows(end, monkeypatch) -> None:
    """Not even one of the database, in the middle of what the listener does."""

    def broken(connection, dag_run) -> list[run_notes.TaskEnd]:
        connection.execute(DagRunNote.__table__.insert().values(dag_run_id=dag_run.id, content="half"))
        connection.execute(text("SELECT * FROM no_such_table"))
        raise AssertionError("the database should have refused that")

    monkeypatch.setattr(run_notes, "_tasks", broken)
    with everything_written() as written:
        assert end((SUCCESS, {NOTE: "3 records"}), (SUCCESS, {NOTE: "3 predicted"})) is None
    assert "no such table: no_such_table" in written[0]
