"""A wrong Airflow connection fails the task at once, a missing one after a few retries; each is named."""

import os
from collections.abc import Callable

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from mnist_airflow.connections import pipeline_of_connections
from mnist_airflow.operators.base import permanent_errors_fail
from mnist_ops.domain.errors import UsageError
from mnist_ops.pipeline import Pipeline
from mnist_ops.settings import Settings

SECRET = "canary-4f9c"
Step = Callable[[Pipeline], object]


def records(pipeline: Pipeline) -> object:
    """A step that needs MongoDB."""
    return pipeline.adapters.records


def objects(pipeline: Pipeline) -> object:
    """A step that needs S3."""
    return pipeline.adapters.objects


@pytest.mark.parametrize(
    ("mongo", "aws", "step", "message"),
    [
        (
            f"mongodb://ada:{SECRET}@db",
            None,
            records,
            r"^mongo_shop: conn_type 'mongodb' not allowed .* 'mongo'",
        ),
        (f"mongo://ada:{SECRET}@db/?tls=perhaps", None, records, r"^mongo_shop: The value of tls must be"),
        ("mongo://db", f"aws://key:{SECRET}@/?endpoint_url=s3:8333", objects, r"^aws_shop: Invalid endpoint"),
    ],
)
def test_a_wrong_connection_is_named_and_not_retried(
    monkeypatch: pytest.MonkeyPatch, mongo: str | None, aws: str | None, step: Step, message: str
) -> None:
    """Operators fail the task on a UsageError; no secret is in it."""
    for name, value in (("MONGO", mongo), ("AWS", aws)):
        if value is not None:
            monkeypatch.setitem(os.environ, f"AIRFLOW_CONN_{name}_SHOP", value)
    with (
        pytest.raises(UsageError, match=message) as raised,
        pipeline_of_connections(Settings(), "mongo_shop", "aws_shop") as pipeline,
    ):
        step(pipeline)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(("step", "name"), [(records, "mongo_lost"), (objects, "aws_lost")])
def test_a_connection_that_airflow_does_not_find_is_named_and_no_permanent_error(
    monkeypatch: pytest.MonkeyPatch, step: Step, name: str
) -> None:
    """Airflow says the same when its API server did not answer, so the task gets a few retries."""
    monkeypatch.setitem(os.environ, "AIRFLOW_CONN_MONGO_SHOP", "mongo://db")
    mongo = name if step is records else "mongo_shop"
    with (
        permanent_errors_fail(),
        pytest.raises(AirflowNotFoundException, match=rf"^{name}: Airflow did not find .*; create it, or"),
        pipeline_of_connections(Settings(), mongo, "aws_lost") as pipeline,
    ):
        step(pipeline)


def test_the_client_options_of_a_connection_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours apply where it has none."""
    options = '{"config_kwargs": {"connect_timeout": 3}, "region_name": "us-east-1"}'
    connection = f'{{"conn_type": "aws", "login": "key", "password": "{SECRET}", "extra": {options}}}'
    monkeypatch.setitem(os.environ, "AIRFLOW_CONN_AWS_SHOP", connection)
    monkeypatch.setitem(os.environ, "AIRFLOW_CONN_MONGO_SHOP", "mongo://db")
    with pipeline_of_connections(Settings(), "mongo_shop", "aws_shop") as pipeline:
        config = pipeline.adapters.objects._client.meta.config
    assert (config.connect_timeout, config.request_checksum_calculation) == (3, "when_required")
