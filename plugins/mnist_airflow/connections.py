"""Airflow's connections become the pipeline, through the official providers' hooks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from airflow.providers.mongo.hooks.mongo import MongoHook
    from airflow.sdk.exceptions import AirflowNotFoundException
    from mypy_boto3_s3 import S3Client

    from mnist_ops.pipeline import Pipeline
    from mnist_ops.settings import Settings


@contextmanager
def pipeline_of_connections(
    settings: "Settings", mongo_conn_id: str, aws_conn_id: str
) -> Iterator["Pipeline"]:
    """The steps over two Airflow connections. Each client connects when a step first needs it.

    Airflow also says that a connection does not exist when its API server or a secrets backend did not
    answer. So that is an error that a few retries may fix, not a UsageError.

    Args:
        settings: bucket, database, collection and the rest.
        mongo_conn_id: a connection of type mongo.
        aws_conn_id: a connection of type aws, with `endpoint_url` in its extras for other stores. One without
            a login takes the keys of the machine, such as those of an instance role; it must exist too.

    Raises:
        UsageError: the connection to MongoDB is wrong; for S3 when a step first needs it.
        AirflowNotFoundException: Airflow does not find it.
    """
    from mnist_ops.adapters.mongo.connection import made_client
    from mnist_ops.adapters.s3.connection import CLIENT_CONFIG, wrong_connections
    from mnist_ops.domain.connections import Connection
    from mnist_ops.pipeline import Pipeline
    from mnist_ops.wiring import Adapters

    def s3_client() -> "S3Client":
        hook = _aws_hook(aws_conn_id)
        with wrong_connections(aws_conn_id):
            return hook.get_client_type(config=CLIENT_CONFIG.merge(hook.config))

    with _mongo_hook(mongo_conn_id) as mongo:
        its = mongo.connection
        where = Connection(login=its.login, password=its.password, extra=its.extra_dejson, name=mongo_conn_id)
        yield Pipeline(Adapters(settings, mongo=lambda: made_client(mongo.get_conn, where), s3=s3_client))


def _mongo_hook(conn_id: str) -> "MongoHook":
    """The hook of a connection, which it reads at once; a wrong one is a UsageError."""
    from airflow.exceptions import AirflowConfigException
    from airflow.providers.mongo.hooks.mongo import MongoHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from mnist_ops.adapters.mongo.connection import with_selection_timeout
    from mnist_ops.domain.errors import UsageError

    try:
        hook = MongoHook(mongo_conn_id=conn_id)
    except AirflowNotFoundException as error:
        raise _not_found(conn_id) from error
    except AirflowConfigException as error:
        raise UsageError(f"{conn_id}: {error}; correct the connection in Airflow") from error
    hook.extras = with_selection_timeout(hook.extras)
    return hook


def _aws_hook(conn_id: str) -> "AwsGenericHook[S3Client]":
    """The hook of a connection, which must exist.

    The hook itself would only warn, and go on with the machine's keys and without the connection's endpoint.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    hook: AwsGenericHook[S3Client] = AwsGenericHook(aws_conn_id=conn_id, client_type="s3")
    # A hook's configuration is false where the hook did not find its connection.
    if not hook.conn_config:
        raise _not_found(conn_id)
    return hook


def _not_found(conn_id: str) -> "AirflowNotFoundException":
    from airflow.sdk.exceptions import AirflowNotFoundException

    return AirflowNotFoundException(
        f"{conn_id}: Airflow did not find this connection; create it, or look whether the API server and the "
        "secrets backends answered"
    )


def aws_connection_as_json(aws_conn_id: str) -> str:
    """An AWS connection as the value of an `AIRFLOW_CONN_*` variable, for a process of our own.

    Whatever the connection says, a role or a profile too, the hook has made it plain keys.

    Raises:
        AirflowNotFoundException: Airflow does not find the connection.
    """
    hook = _aws_hook(aws_conn_id)
    keys = hook.get_credentials()
    config = hook.conn_config
    extra = {
        "aws_session_token": keys.token,
        "region_name": hook.region_name,
        "endpoint_url": config.get_service_endpoint_url(service_name="s3"),
        "config_kwargs": config.extra_config.get("config_kwargs"),
    }
    return json.dumps(
        {
            "conn_type": "aws",
            "login": keys.access_key,
            "password": keys.secret_key,
            "extra": {name: value for name, value in extra.items() if value is not None},
        }
    )
