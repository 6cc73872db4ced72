"""Airflow's connections become adapters, through the official providers' hooks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ops.settings import Settings
    from mnist_ops.wiring import Adapters


@contextmanager
def adapters_of_connections(
    settings: "Settings", mongo_conn_id: str, aws_conn_id: str
) -> Iterator["Adapters"]:
    """The adapters that two Airflow connections lead to.

    Args:
        settings: bucket, database, collection and the rest.
        mongo_conn_id: a connection of type mongo.
        aws_conn_id: a connection of type aws, with `endpoint_url` in its extras for other stores.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from airflow.providers.mongo.hooks.mongo import MongoHook

    from mnist_ops.adapters.s3_objects import CLIENT_CONFIG
    from mnist_ops.wiring import assemble

    hook = AwsBaseHook(aws_conn_id=aws_conn_id, client_type="s3")
    with MongoHook(mongo_conn_id=mongo_conn_id) as mongo:
        yield assemble(
            settings, mongo.get_conn(), hook.get_client_type(config=hook.config.merge(CLIENT_CONFIG))
        )


def connection_as_json(conn_id: str) -> str:
    """A connection as the value of an `AIRFLOW_CONN_*` variable, for a process of our own."""
    from airflow.sdk import BaseHook

    found = BaseHook.get_connection(conn_id)
    return json.dumps(
        {
            "conn_type": found.conn_type,
            "host": found.host,
            "port": found.port,
            "schema": found.schema,
            "login": found.login,
            "password": found.password,
            "extra": found.extra_dejson,
        }
    )
