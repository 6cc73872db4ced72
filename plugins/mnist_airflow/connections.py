"""Airflow's connections become the pipeline, through the official providers' hooks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ops.pipeline import Pipeline
    from mnist_ops.settings import Settings


@contextmanager
def pipeline_of_connections(
    settings: "Settings", mongo_conn_id: str, aws_conn_id: str
) -> Iterator["Pipeline"]:
    """The steps over two Airflow connections. Each client connects when a step first needs it.

    Args:
        settings: bucket, database, collection and the rest.
        mongo_conn_id: a connection of type mongo.
        aws_conn_id: a connection of type aws, with `endpoint_url` in its extras for other stores.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from airflow.providers.mongo.hooks.mongo import MongoHook

    from mnist_ops.adapters.s3.connection import CLIENT_CONFIG
    from mnist_ops.pipeline import Pipeline
    from mnist_ops.wiring import Adapters

    hook = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="s3")
    with MongoHook(mongo_conn_id=mongo_conn_id) as mongo:
        yield Pipeline(
            Adapters(
                settings,
                mongo=mongo.get_conn,
                s3=lambda: hook.get_client_type(config=hook.config.merge(CLIENT_CONFIG)),
            )
        )


def aws_connection_as_json(aws_conn_id: str) -> str:
    """An AWS connection as the value of an `AIRFLOW_CONN_*` variable, for a process of our own.

    Whatever the connection says, a role or a profile too, the hook has made it plain keys.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    hook = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="s3")
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
