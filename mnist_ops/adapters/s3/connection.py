"""A connection becomes an S3 client."""

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from mnist_ops.adapters.s3.objects import CLIENT_CONFIG
from mnist_ops.domain.connections import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Images are fetched over so many connections; with more, threads wait for each other.
_CONNECTIONS = 16


def s3_client(where: Connection) -> "S3Client":
    """A client for a connection.

    Of its extras it knows `aws_session_token`, `region_name`, `endpoint_url` and `config_kwargs`; roles
    and profiles are for Airflow's hooks.
    """
    extra: dict[str, Any] = dict(where.extra)
    return boto3.client(
        "s3",
        aws_access_key_id=where.login,
        aws_secret_access_key=where.password,
        aws_session_token=extra.get("aws_session_token"),
        region_name=extra.get("region_name"),
        endpoint_url=extra.get("endpoint_url"),
        config=Config(**{"max_pool_connections": _CONNECTIONS, **extra.get("config_kwargs", {})}).merge(
            CLIENT_CONFIG
        ),
    )
