"""Backfills yield to live runs: their tasks have a pool and a priority of their own.

A live run is any other run: scheduled, manual, or triggered by an asset. The pool has fewer slots than the
executor, so a live run always finds a free one. The priority decides which task is queued first.
`yield_to_live_runs` sets both when Airflow creates or clears a task instance. When a backfill reprocesses a
run, Airflow clears its tasks before it marks the run as a backfill, so `move_to_backfill` sets them again
when the run starts.

It imports the standard library only, since every part of Airflow imports it while starting.
"""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session

POOL = "backfill"
# Every other task has 1 or more: its own weight and, by default, the weights of all tasks after it. Backfill
# tasks share one weight, so that the oldest window is queued first and finished before the next.
PRIORITY = 0

# The value of `DagRunType.BACKFILL_JOB`, and the pool of tasks that name none.
_BACKFILL = "backfill"
_DEFAULT_POOL = "default_pool"

_log = logging.getLogger(__name__)


def yield_to_live_runs(task_instance: "TaskInstance", dag_run: "DagRun | None") -> None:
    """Give a backfill's task instance its pool and priority; leave all others as they are.

    A task that names a pool, such as `gpu`, keeps it. If there is no pool `backfill`, the task stays in
    Airflow's default pool: in a pool that does not exist it would never be scheduled.

    Args:
        task_instance: newly created or cleared. Airflow may call this more than once for it.
        dag_run: its run; None if Airflow does not know it yet and will call again.
    """
    if dag_run is None or dag_run.run_type != _BACKFILL:
        return
    task_instance.priority_weight = PRIORITY
    if task_instance.pool == _DEFAULT_POOL and _pool_exists(_session_of(dag_run)):
        task_instance.pool = POOL


def move_to_backfill(session: "Session", dag_run: "DagRun") -> None:
    """Set pool and priority of all unfinished task instances of a backfill run.

    Args:
        session: Airflow's, of the run.
        dag_run: a run that starts; a live one is left as it is.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import State
    from sqlalchemy import or_, update

    if dag_run.run_type != _BACKFILL:
        return
    unfinished = or_(TaskInstance.state.is_(None), TaskInstance.state.in_(State.unfinished))
    of_run = update(TaskInstance).where(
        TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id, unfinished
    )
    session.execute(of_run.values(priority_weight=PRIORITY))
    if _pool_exists(session):
        session.execute(of_run.where(TaskInstance.pool == _DEFAULT_POOL).values(pool=POOL))


def _session_of(dag_run: "DagRun") -> "Session | None":
    """Airflow's session of the run: a policy must not open another one."""
    from sqlalchemy.orm import object_session

    return object_session(dag_run)


def _pool_exists(session: "Session | None") -> bool:
    from airflow.models.pool import Pool
    from sqlalchemy import select

    if session is None:
        return False
    # A query must not flush what Airflow has not finished.
    with session.no_autoflush:
        found = session.scalar(select(Pool.pool).where(Pool.pool == POOL)) is not None
    if not found:
        _log.warning("there is no pool %s: tasks of backfills stay in %s", POOL, _DEFAULT_POOL)
    return found
