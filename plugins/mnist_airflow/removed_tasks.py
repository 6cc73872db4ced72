"""Mapped tasks that an earlier generation of a run had no parts for come back when the run starts again.

When a run is cleared, Airflow compares its mapped tasks with the parts of the generation before, marks those
that are too many as `removed`, and never runs them again: 1 part, then none, then 1 would leave `fetch[0]`
removed. Reset at the start of the run, they are decided again with all others once the parts are known.

It imports the standard library only, since every part of Airflow imports it while starting.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


def restore_removed_tasks(dag_run: "DagRun") -> None:
    """Reset the removed instances of a run's mapped tasks.

    Clearing has already filed their last try, so the state is all that is left of it.

    Args:
        dag_run: a run that starts, of any kind. The removed instances of a task that the DAG no longer has
            stay as they are.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import update
    from sqlalchemy.orm import object_session

    session, dag = object_session(dag_run), dag_run.dag
    if session is None or dag is None:
        return
    session.execute(
        update(TaskInstance)
        .where(
            TaskInstance.dag_id == dag_run.dag_id,
            TaskInstance.run_id == dag_run.run_id,
            TaskInstance.task_id.in_(dag.task_ids),
            TaskInstance.map_index >= 0,
            TaskInstance.state == TaskInstanceState.REMOVED,
        )
        .values(state=None)
    )
