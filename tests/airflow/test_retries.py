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
    assert {task.retry_policy for task in others} == {RetryTransient()}
    assert {dags["train_lenet"].get_task(name).retry_policy for name in MACHINE} == {None}


def actions(*exceptions: BaseException, store: "Store | None" = None, cleared: int = 0) -> str:
    """What the policy decides after each of these tries: a letter each, `r`etry by Airflow's rule or `f`ail.

    Args:
        exceptions: what the tries fail with.
        store: the task's state store.
        cleared: how many tries there were before the task was cleared.
    """
    context: Any = {"task_state_store": Store() if store is None else store}
    max_tries = cleared + RETRIES["retries"]
    decided = [
        RetryTransient().evaluate(exception, cleared + number, max_tries, context).action
        for number, exception in enumerate(exceptions, 1)
    ]
    return "".join({RetryAction.DEFAULT: "r", RetryAction.FAIL: "f"}[action] for action in decided)


class Store(dict[str, Any]):
    """In place of Airflow's state store."""

    set = dict.__setitem__


BUG, OUTAGE = KeyError("a bug"), Transient("no answer")


@pytest.mark.parametrize("error", [OUTAGE, OutcomeUnknown("the reply was lost")])
def test_an_outage_gets_all_retries(error) -> None:
    """Airflow's own rule applies: as many as the task has, each after a longer delay."""
    assert actions(*[error] * RETRIES["retries"]) == "r" * RETRIES["retries"]


def test_any_other_exception_gets_three_retries() -> None:
    """The fourth is the last."""
    assert actions(*[BUG] * 4) == "rrrf"


def test_an_outage_does_not_use_up_the_retries_of_other_exceptions() -> None:
    """One fault after an hour without a database is tried again, and so is one in the middle of it."""
    assert actions(*[OUTAGE] * 6, BUG) == "rrrrrrr"
    assert actions(BUG, OUTAGE, BUG, OUTAGE, OUTAGE, BUG, BUG) == "rrrrrrf"


def test_a_cleared_task_gets_its_retries_again() -> None:
    """Airflow counts the tries on, and keeps what the task stored."""
    store = Store()
    assert actions(*[BUG] * 4, store=store) == "rrrf"
    assert actions(*[BUG] * 4, store=store, cleared=4) == "rrrf"


class Faulty(BaseOperator):
    """Fails each time, twice because of an outage."""

    def execute(self, context: Mapping[str, Any]) -> None:
        """Fail."""
        raise OUTAGE if context["ti"].try_number in {1, 3} else BUG


def test_airflow_asks_the_policy(run_any) -> None:
    """Two outages and four faults, where the task has twelve retries."""
    at_once = {"retry_delay": timedelta(0), "max_retry_delay": timedelta(0)}
    start = datetime(2020, 1, 1, tzinfo=UTC)
    with DAG("faulty", schedule=None, start_date=start, default_args=RETRIES | at_once) as dag:
        Faulty(task_id="task")
    make_known(dag)
    run = run_any(dag, {})
    assert (run.tasks, run.tries) == ({"task": "failed"}, {"task": 6})


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
