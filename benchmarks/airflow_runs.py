"""Runs of Airflow as the benchmarks look at them: tasks with their times, over the REST API."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from mnist_ops.adapters.airflow_rest import AirflowRest

CLASSIFY = "classify_records"


@dataclass(frozen=True)
class Task:
    """A task instance that has been tried at least once.

    Attributes:
        name: of the task.
        part: its map index; -1 where it is not mapped.
        state: of its last try.
        tries: how many there were.
        queue: where it was sent.
        start: of its last try.
        end: of its last try; None where it runs.
    """

    name: str
    part: int
    state: str
    tries: int
    queue: str
    start: datetime
    end: datetime | None


def tasks_of(airflow: AirflowRest, run_id: str, dag_id: str = CLASSIFY) -> list[Task]:
    """The tasks of a run that have started, in that order."""
    found = cast("list[dict[str, Any]]", airflow.task_instances(dag_id, run_id))
    tasks = [
        Task(
            name=one["task_id"],
            part=one["map_index"],
            state=str(one["state"]),
            tries=one["try_number"],
            queue=str(one["queue"]),
            start=datetime.fromisoformat(one["start_date"]),
            end=datetime.fromisoformat(one["end_date"]) if one["end_date"] else None,
        )
        for one in found
        if one["start_date"]
    ]
    return sorted(tasks, key=lambda task: task.start)


def gaps_s(tasks: Iterable[Task]) -> list[float]:
    """Seconds from the end of a part's fetching to the start of its classification, a part each."""
    ends = {task.part: task.end for task in tasks if task.name == "part.fetch" and task.end}
    starts = {task.part: task.start for task in tasks if task.name == "part.classify"}
    return [(starts[part] - end).total_seconds() for part, end in ends.items() if part in starts]


def spread(seconds: Sequence[float]) -> str:
    """A median with its range, in seconds."""
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
