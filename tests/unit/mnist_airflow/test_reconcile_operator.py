"""Reconciling looks at how the snapshot of this generation ended, not only at what a former one left."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException

from mnist_airflow.operators import ReconcileRunOperator, SnapshotRecordsOperator
from mnist_ops.domain.errors import Permanent

FORMER = "s3://bucket/snapshots/dag/run/0-1-ab/manifest-former.json"


class Reconciled(Exception):
    """The pipeline was asked to reconcile."""


@contextmanager
def pipeline(self: ReconcileRunOperator) -> Iterator[SimpleNamespace]:  # noqa: ARG001 (a method)
    """In place of the steps: says that it was used."""

    def manifest(uri: str) -> None:
        raise Reconciled(uri)

    yield SimpleNamespace(manifest=manifest)


def reconcile(monkeypatch: pytest.MonkeyPatch, snapshot_state: str | None, **arguments: Any) -> None:
    """Reconcile after a snapshot in this state."""

    def states(dag_id: str, *, task_ids: list[str], run_ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
        assert (dag_id, task_ids, run_ids) == ("dag", ["snapshot"], ["run"])
        return {"run": {"snapshot": snapshot_state}}

    monkeypatch.setattr(ReconcileRunOperator, "pipeline", pipeline)
    with DAG("dag", schedule=None):
        operator = ReconcileRunOperator(task_id="reconcile", outcomes=[], **arguments)
        SnapshotRecordsOperator(task_id="snapshot") >> operator
    run = SimpleNamespace(dag_id="dag", run_id="run")
    context: Any = {"ti": SimpleNamespace(get_task_states=states), "dag_run": run}
    operator.execute(context)


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped", None])
def test_the_manifest_of_a_former_generation_is_not_taken(monkeypatch, state) -> None:
    """It is what Airflow still has of a snapshot that failed in the queue: the run would end green."""
    with pytest.raises(Permanent, match="the snapshot left no manifest: see the log of its task"):
        reconcile(monkeypatch, state, manifest=FORMER)


def test_the_count_of_a_former_generation_is_not_taken(monkeypatch) -> None:
    """The task would skip itself, and the run would end green too."""
    with pytest.raises(Permanent, match="the snapshot left no manifest"):
        reconcile(monkeypatch, "failed", manifest=None, preview=True)


def test_after_a_snapshot_that_succeeded_its_run_is_reconciled(monkeypatch) -> None:
    """Also where only later tasks were cleared, so that the manifest is of an earlier clear number."""
    with pytest.raises(Reconciled, match="manifest-former"):
        reconcile(monkeypatch, "success", manifest=FORMER)


def test_after_a_snapshot_that_only_counted_there_is_nothing_to_reconcile(monkeypatch) -> None:
    """It skips itself."""
    with pytest.raises(AirflowSkipException):
        reconcile(monkeypatch, "skipped", manifest=None, preview=True)
