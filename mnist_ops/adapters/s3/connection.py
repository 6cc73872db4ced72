"""Makes an S3 client of a connection."""

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from mnist_ops.domain.connections import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Some stores keep the framing of boto3's own checksums inside the object; our digests serve instead.
CLIENT_CONFIG = Config(
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"mode": "standard", "total_max_attempts": 5},
)

# Images are fetched over this many connections; with more, the threads wait for each other.
_CONNECTIONS = 16


def s3_client(where: Connection) -> "S3Client":
    """Make a client of a connection.

    It reads the extras `aws_session_token`, `region_name`, `endpoint_url` and `config_kwargs`. Roles and
    profiles need Airflow's own hook.
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
