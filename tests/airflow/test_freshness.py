"""The deadline of classify_records: when there is one, and what its callback says."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DeadlineReference
from airflow.serialization.decoders import decode_deadline_alert
from airflow.serialization.encoders import encode_deadline_alert

from mnist_airflow import freshness
from mnist_airflow.freshness import freshness_deadline, report_late_run
from tests.support.environment import environment

DAGS = Path(__file__).parents[2] / "dags"
RUN = {"dag_id": "classify_records", "dag_run_id": "scheduled__1", "run_type": "scheduled"}


@pytest.fixture
def sent(monkeypatch) -> dict[str, float]:
    """What the triggerer's metrics get."""
    values: dict[str, float] = {}

    def keep(stat: str, value: float, *, tags: dict[str, str]) -> None:
        assert tags == {"dag_id": "classify_records"}
        values[stat] = value

    monkeypatch.setattr("airflow.observability.stats.incr", keep)
    monkeypatch.setattr("airflow.observability.stats.gauge", keep)
    return values


def late(run: dict[str, str], objective_s: float = 60.0) -> str:
    """Call the callback as the triggerer does."""
    return asyncio.run(report_late_run(objective_s, {"dag_run": run}))


@pytest.mark.parametrize("value", ["", "0", "-5", "soon", "1e99", "nan"])
def test_without_an_objective_there_is_no_deadline(value) -> None:
    """A wrong value is not the DAG file's to refuse: a task says what is wrong with it."""
    assert freshness_deadline({"MNIST_OPS_FRESHNESS_S": value}) is None


def test_an_objective_is_the_deadline_of_every_run() -> None:
    """From the moment when it is queued, which runs of all kinds have; Airflow can store it."""
    with environment(MNIST_OPS_FRESHNESS_S="900"):
        bag = DagBag(dag_folder=str(DAGS / "classify_records.py"))
    assert bag.import_errors == {}
    [alert] = bag.dags["classify_records"].deadline
    assert (alert.reference, alert.interval) == (DeadlineReference.DAGRUN_QUEUED_AT, timedelta(minutes=15))
    stored = decode_deadline_alert(encode_deadline_alert(alert))
    assert stored.callback.path == "mnist_airflow.freshness.report_late_run"
    assert stored.callback.kwargs == {"objective_s": 900.0}


def test_a_late_run_is_an_error_that_names_it_and_the_oldest_waiting_record(deployment, sent, caplog) -> None:
    """With two metrics, for alerts."""
    waiting = [
        record | {"created_at": datetime.now(UTC) - timedelta(hours=hours)}
        for hours, record in enumerate(deployment.waiting(2), start=4)
    ]
    with deployment.collection("late", *waiting), caplog.at_level(logging.ERROR, "mnist_airflow.freshness"):
        line = late(RUN)
    assert line == (
        "classify_records/scheduled__1: not finished 60 s after it was queued, the freshness objective "
        "(MNIST_OPS_FRESHNESS_S); the oldest waiting record is 5.0 h old"
    )
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", line)]
    assert sent == {
        "mnist_ops.freshness.late_runs": 1,
        "mnist_ops.freshness.oldest_waiting_s": pytest.approx(5 * 3_600, abs=60),
    }


def test_a_run_is_late_also_if_the_database_does_not_answer(monkeypatch, sent) -> None:
    """It may be why."""

    def refuse(*_: object) -> None:
        raise ConnectionError("no server answered")

    monkeypatch.setattr("mnist_airflow.connections.pipeline_of_connections", refuse)
    assert late(RUN).endswith("the age of the oldest waiting record is not known: no server answered")
    assert sent == {"mnist_ops.freshness.late_runs": 1}


@pytest.mark.parametrize("run_type", ["backfill", "manual", "operator_triggered"])
def test_a_run_that_may_work_on_the_past_is_never_late(monkeypatch, sent, caplog, run_type) -> None:
    """Nobody waits for its records; runs of a backfill also wait for each other."""
    monkeypatch.setattr(freshness, "_oldest_waiting", pytest.fail)
    assert late(RUN | {"run_type": run_type}).endswith(f"type {run_type} has no freshness objective")
    assert (sent, caplog.records) == ({}, [])


def test_a_run_that_arriving_records_woke_may_be_late(monkeypatch, sent) -> None:
    """These are the records that somebody waits for."""
    monkeypatch.setattr(freshness, "_oldest_waiting", lambda: (None, "no record waits"))
    late(RUN | {"run_type": "asset_triggered"})
    assert sent == {"mnist_ops.freshness.late_runs": 1}
