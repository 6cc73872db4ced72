"""Backfills yield to live runs: their tasks have a pool and a priority of their own.

A live run is any other: scheduled, by hand, triggered by an asset. The pool has fewer slots than there are
places for tasks, so that a live run always finds one; the priority decides who is queued first. Both are
given to a task instance when Airflow makes or clears it, by `yield_to_live_runs`. Where a backfill
reprocesses a run, Airflow clears its tasks before it makes it a backfill: `move_to_backfill` mends that when
the run starts.

Standard library only at import: every part of Airflow imports this while it starts.
"""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session

POOL = "backfill"
# Every other task has 1 or more: its own weight and, by default, that of all tasks after it. One weight for
# all, so that among backfill tasks the oldest window goes first and is finished before the next.
PRIORITY = 0

# As `DagRunType.BACKFILL_JOB` has it, and as Airflow calls the pool of tasks that name none.
_BACKFILL = "backfill"
_DEFAULT_POOL = "default_pool"

_log = logging.getLogger(__name__)


def yield_to_live_runs(task_instance: "TaskInstance", dag_run: "DagRun | None") -> None:
    """Give a backfill's task instance its pool and priority; leave all others as they are.

    A task that names a pool, such as `gpu`, keeps it. Where there is no pool `backfill`, the task stays in
    Airflow's default one: in a pool that does not exist it would never be scheduled.

    Args:
        task_instance: as Airflow has just made it from its task, or cleared it; maybe for the second time.
        dag_run: its run; None where Airflow calls again as soon as it knows.
    """
    if dag_run is None or dag_run.run_type != _BACKFILL:
        return
    task_instance.priority_weight = PRIORITY
    if task_instance.pool == _DEFAULT_POOL and _is_there(_session_of(dag_run)):
        task_instance.pool = POOL


def move_to_backfill(dag_run: "DagRun") -> None:
    """Give all unfinished task instances of a backfill run that starts their pool and priority.

    Args:
        dag_run: any run; nothing is done to a live one.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import State
    from sqlalchemy import or_, update

    session = _session_of(dag_run)
    if dag_run.run_type != _BACKFILL or session is None:
        return
    unfinished = or_(TaskInstance.state.is_(None), TaskInstance.state.in_(State.unfinished))
    of_run = update(TaskInstance).where(
        TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id, unfinished
    )
    session.execute(of_run.values(priority_weight=PRIORITY))
    if _is_there(session):
        session.execute(of_run.where(TaskInstance.pool == _DEFAULT_POOL).values(pool=POOL))


def _session_of(dag_run: "DagRun") -> "Session | None":
    """The session that Airflow has the run in: a policy must not open one of its own."""
    from sqlalchemy.orm import object_session

    return object_session(dag_run)


def _is_there(session: "Session | None") -> bool:
    from airflow.models.pool import Pool
    from sqlalchemy import select

    if session is None:
        return False
    # Asking must not write what Airflow is in the middle of.
    with session.no_autoflush:
        found = session.scalar(select(Pool.pool).where(Pool.pool == POOL)) is not None
    if not found:
        _log.warning("there is no pool %s: tasks of backfills stay in %s", POOL, _DEFAULT_POOL)
    return found
