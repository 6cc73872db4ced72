"""Which tasks of Airflow did not succeed, and the ends of their logs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from mnist_ops.adapters.airflow_rest import AirflowRest, Json

GOOD = frozenset({"success", "skipped", "None"})
# What they logged, if anything, was an earlier try.
WITHOUT_LOG = frozenset({"removed", "upstream_failed", "scheduled", "queued"})
_LINES = 25


@dataclass
class TaskFailures:
    """What went wrong in Airflow, each task told with its log once.

    Attributes:
        airflow: where to ask.
        seen: the tasks, with their states, whose logs were told.
    """

    airflow: AirflowRest
    seen: set[tuple[str, str]] = field(default_factory=set)

    def told(self) -> str:
        """A line a task, followed by the last lines of its log unless they were told before."""
        return "\n".join(line for task in self._tasks() for line in self._lines(task)) or "none"

    def _tasks(self) -> Iterator[Json]:
        path = "/dags/~/dagRuns/~/taskInstances"
        for task in self.airflow.listing(path, "task_instances", order_by="start_date"):
            if str(task["state"]) not in GOOD:
                yield task

    def _lines(self, task: Json) -> Iterator[str]:
        index = f"[{task['map_index']}]" if task["map_index"] != -1 else ""
        state = f"{task['state']} at try {task['try_number']}"
        yield f"{task['dag_id']} {task['dag_run_id']} {task['task_id']}{index}: {state}"
        key = (str(task["id"]), state)
        if task["state"] not in WITHOUT_LOG and key not in self.seen:
            self.seen.add(key)
            yield from (f"    {line}" for line in self._log(task)[-_LINES:])

    def _log(self, task: Json) -> list[str]:
        run, name = (quote(str(task[part]), safe="") for part in ("dag_run_id", "task_id"))
        path = f"/dags/{task['dag_id']}/dagRuns/{run}/taskInstances/{name}/logs/{task['try_number']}"
        answer = self.airflow.call("GET", f"{path}?map_index={task['map_index']}&full_content=true")
        return [line for entry in answer["content"] for line in _entry(entry)]


def _entry(entry: object) -> Iterator[str]:
    """A line of a task's log, with the error that it may carry."""
    if not isinstance(entry, dict):
        yield str(entry)
        return
    if "group::" in str(entry.get("event")):
        return  # it only folds lines in the UI
    yield f"{entry.get('level', '')} {entry.get('event', '')}".strip()
    for error in entry.get("error_detail") or ():
        for frame in error.get("frames", ())[-3:]:
            yield f"  {frame['filename']}:{frame['lineno']} {frame['name']}"
        yield f"  {error.get('exc_type')}: {error.get('exc_value')}"
