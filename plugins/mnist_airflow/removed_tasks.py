"""Mapped tasks that an earlier generation of a run had no parts for come back when the run starts again.

When a run is cleared, Airflow compares its mapped tasks with the parts of the generation before, marks those
that are too many as `removed`, and never runs them again: 1 part, then none, then 1 would leave `fetch[0]`
removed. Reset at the start of the run, they are decided again with all others once the parts are known.

Where the DAG has changed since, Airflow compares once more after the start. So the old number of parts is
raised too, until the task that finds the parts says the new one.

It imports the standard library only, since every part of Airflow imports it while starting.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

from mnist_airflow.run_notes import OPERATORS

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.serialization.definitions.baseoperator import SerializedBaseOperator
    from airflow.serialization.definitions.mappedoperator import SerializedMappedOperator
    from sqlalchemy.orm import Session


def restore_removed_tasks(session: "Session", dag_run: "DagRun") -> None:
    """Reset the removed instances of our mapped tasks whose parts this run will find again.

    Clearing has already filed their last try, so the state is all that is left of it.

    Args:
        session: Airflow's, of the run.
        dag_run: a run that starts, of any kind. Tasks of other operators, tasks that the DAG no longer maps,
            and those whose parts stay what they are, are left alone.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskmap import TaskMap
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select, update

    of_run = (TaskInstance.dag_id == dag_run.dag_id, TaskInstance.run_id == dag_run.run_id)
    removed_only = (TaskInstance.map_index >= 0, TaskInstance.state == TaskInstanceState.REMOVED)
    removed = defaultdict(list)
    for name, index in session.execute(
        select(TaskInstance.task_id, TaskInstance.map_index).where(*of_run, *removed_only)
    ):
        removed[name].append(index)
    if not removed or dag_run.dag is None:
        return
    waiting = set(session.scalars(select(TaskInstance.task_id).where(*of_run, TaskInstance.state.is_(None))))
    for task in dag_run.dag.tasks:
        sources = _mapped_over(task) if task.task_id in removed and task.task_type in OPERATORS else set()
        if not sources or not sources <= waiting:
            continue
        restored = update(TaskInstance).where(*of_run, *removed_only, TaskInstance.task_id == task.task_id)
        session.execute(restored.values(state=None))
        length = max(removed[task.task_id]) + 1
        raised = update(TaskMap).where(
            TaskMap.dag_id == dag_run.dag_id,
            TaskMap.run_id == dag_run.run_id,
            TaskMap.task_id.in_(sources),
            TaskMap.length < length,
        )
        session.execute(raised.values(length=length))


def _mapped_over(task: "SerializedBaseOperator | SerializedMappedOperator") -> set[str]:
    """The tasks whose results decide how many instances a task has; empty if it is not mapped."""
    from airflow.serialization.definitions.mappedoperator import SerializedMappedOperator

    nodes = [*task.iter_mapped_task_groups(), *([task] if isinstance(task, SerializedMappedOperator) else [])]
    return {source.task_id for node in nodes for source in node.iter_mapped_dependencies()}
