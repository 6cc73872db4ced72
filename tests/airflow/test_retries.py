"""How long tasks are tried again: outages for an hour, faults of the program a few times."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, RetryAction
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from mnist_airflow.connections import pipeline_of_connections
from mnist_airflow.operators import training
from mnist_airflow.retries import RETRIES, RetryTransient
from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.domain.errors import OutcomeUnknown, Transient
from mnist_ops.settings import Settings
from tests.support.airflow_dags import make_known

HOUR_S = 3600.0
MACHINE = {"start_instance", "stop_instance"}
DEAD = {"conn_type": "mongo", "host": "127.0.0.1", "port": 9}


def least_delays(task: Any) -> list[float]:
    """The shortest delays before each retry of a task, in seconds; Airflow adds up to as much again."""
    first, factor = task.retry_delay.total_seconds(), float(task.retry_exponential_backoff)
    return [min(first * factor**retry, task.max_retry_delay.total_seconds()) for retry in range(task.retries)]


def test_every_task_is_tried_again_for_an_hour(dags) -> None:
    """A database that is down at night is back by then."""
    patience = {task.task_id: sum(least_delays(task)) for dag in dags.values() for task in dag.tasks}
    assert len(patience) > 10
    assert {name: total for name, total in patience.items() if total < HOUR_S} == {}


def test_the_machine_is_stopped_with_more_patience_than_anything_else(dags) -> None:
    """It costs money."""
    patience = {task.task_id: sum(least_delays(task)) for task in dags["train_lenet"].tasks}
    assert patience.pop("stop_instance") > 2 * max(patience.values())


def test_only_outages_are_retried_for_so_long(dags) -> None:
    """All tasks but those that ask EC2 tell an outage from a fault."""
    others = [task for dag in dags.values() for task in dag.tasks if task.task_id not in MACHINE]
    assert {task.retry_policy for task in others} == {RetryTransient(retries=RETRIES["retries"])}
    assert {dags["train_lenet"].get_task(name).retry_policy for name in MACHINE} == {None}


def actions(exception: BaseException, tries_before: int = 0) -> list[RetryAction]:
    """What the policy decides after each try of a task that always fails so.

    Args:
        exception: what it fails with.
        tries_before: those before the task was cleared.
    """
    max_tries = tries_before + RETRIES["retries"]
    return [
        RetryTransient().evaluate(exception, try_number, max_tries).action
        for try_number in range(tries_before + 1, max_tries + 1)
    ]


@pytest.mark.parametrize("error", [Transient("no answer"), OutcomeUnknown("the reply was lost")])
def test_an_outage_gets_all_retries(error) -> None:
    """Airflow's own rule applies: as many as the task has, each after a longer delay."""
    assert actions(error) == [RetryAction.DEFAULT] * RETRIES["retries"]


@pytest.mark.parametrize("tries_before", [0, 1, 9])
def test_any_other_exception_gets_three_retries(tries_before) -> None:
    """Also after a clear: Airflow counts the tries on."""
    decided = actions(KeyError("a bug"), tries_before)
    assert decided[:4] == [RetryAction.DEFAULT] * 3 + [RetryAction.FAIL]


class Faulty(BaseOperator):
    """Fails each time."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Fail."""
        raise KeyError("a bug")


def test_airflow_asks_the_policy(run_any) -> None:
    """Four tries, where the task has twelve retries."""
    at_once = {"retry_delay": timedelta(0), "max_retry_delay": timedelta(0)}
    start = datetime(2020, 1, 1, tzinfo=UTC)
    with DAG("faulty", schedule=None, start_date=start, default_args=RETRIES | at_once) as dag:
        Faulty(task_id="task")
    make_known(dag)
    run = run_any(dag, {})
    assert (run.tasks, run.tries) == ({"task": "failed"}, {"task": 4})


# What is an outage


@pytest.mark.usefixtures("deployment")
def test_a_dead_database_is_an_outage_and_known_as_such_quickly(monkeypatch) -> None:
    """Nothing listens there; how long the driver looks for a server is in the connection."""
    dead = DEAD | {"extra": {"serverselectiontimeoutms": 300}}
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEAD", json.dumps(dead))
    started = time.monotonic()
    with (
        pipeline_of_connections(Settings(), "mongo_dead", "aws_default") as pipeline,
        pytest.raises(Transient, match=r"127\.0\.0\.1:9"),
    ):
        pipeline.adapters.records.ensure_indexes()
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("deployment")
def test_a_task_looks_for_a_server_for_15_seconds(monkeypatch) -> None:
    """Longer than an election in a replica set takes; the driver itself would take 30."""
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEAD", json.dumps(DEAD))
    with pipeline_of_connections(Settings(), "mongo_dead", "aws_default") as pipeline:
        assert pipeline.adapters.mongo().options.server_selection_timeout == 15


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ExitCode.SOME_FAILED, AirflowException),
        (ExitCode.USAGE, AirflowFailException),
        (ExitCode.PERMANENT, AirflowFailException),
        (ExitCode.TRANSIENT, Transient),
        (-9, AirflowException),
    ],
)
def test_the_exit_code_of_a_training_decides_how_long_it_is_retried(code, error) -> None:
    """Its process has no other way to tell."""
    with pytest.raises(error) as raised:
        training._require_success(int(code))
    assert type(raised.value) is error
