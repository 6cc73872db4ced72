"""The freshness objective of `classify_records`: a run that is too late alerts while it still runs.

A run's records were created before it was queued. So a run that is unfinished when the objective has passed
since then has missed it for every record. `reconcile` measures the ages themselves, but only a run that ends
gets there: this alert also comes when a task hangs.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

from mnist_airflow.metrics import Metric, late_metrics, send

_log = logging.getLogger(__name__)

_HELD_TO_IT = ("scheduled", "asset_triggered")


def freshness_deadline(environment: Mapping[str, str]) -> DeadlineAlert | None:
    """The alert of a DAG whose runs should meet the objective; None if `MNIST_OPS_FRESHNESS_S` sets none.

    A wrong value fails a task, which reads all settings, but not the DAG's file. `dag.test()` of Airflow 3.3
    fails on a DAG with an alert, so there is none without an objective.
    """
    try:
        objective_s = float(environment.get("MNIST_OPS_FRESHNESS_S") or 0)
        interval = timedelta(seconds=objective_s)
    except (ValueError, OverflowError):
        return None
    if interval <= timedelta():
        return None
    return DeadlineAlert(
        name="freshness",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=interval,
        # In the triggerer: the slots of the executor may all be taken by the tasks that hang.
        callback=AsyncCallback(report_late_run, kwargs={"objective_s": objective_s}),
    )


async def report_late_run(objective_s: float, context: Mapping[str, Any]) -> str:
    """Log that a run is late, and count it; returns the line.

    Only runs that the schedule or arriving records start are: other runs, such as backfills, may work on the
    past.

    Args:
        objective_s: the objective, in seconds.
        context: what Airflow says of the run.
    """
    run = context["dag_run"]
    name = f"{run['dag_id']}/{run['dag_run_id']}"
    if run["run_type"] not in _HELD_TO_IT:
        return f"{name}: a run of the type {run['run_type']} has no freshness objective"
    # Other triggers share this thread, which must not wait for the database.
    age_s, waiting = await asyncio.to_thread(_oldest_waiting)
    line = (
        f"{name}: not finished {objective_s:g} s after it was queued, the freshness objective "
        f"(MNIST_OPS_FRESHNESS_S); {waiting}"
    )
    _log.error("%s", line)
    _send(late_metrics(age_s), run["dag_id"])
    return line


def _oldest_waiting() -> tuple[float | None, str]:
    """The age in seconds of the oldest record that no run has tried yet, if it is known; and a line of it."""
    from mnist_airflow.connections import pipeline_of_connections
    from mnist_ops.domain.ages import age_s, duration
    from mnist_ops.settings import Settings

    try:
        with pipeline_of_connections(Settings(), "mongo_default", "aws_default") as pipeline:
            now = pipeline.now()
            oldest = pipeline.adapters.record_index.oldest_waiting(now)
    except Exception as error:  # noqa: BLE001 (the alert matters more; a database that is down may be its cause)
        return None, f"the age of the oldest waiting record is not known: {error}"
    age = age_s(oldest, now)
    return age, "no record waits" if age is None else f"the oldest waiting record is {duration(age)} old"


def _send(metrics: Iterable[Metric], dag_id: str) -> None:
    # Not the task SDK's: the triggerer sets up its own.
    from airflow.observability import stats

    send(metrics, {"dag_id": dag_id}, stats)
