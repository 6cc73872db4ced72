"""Makes an S3 client of a connection."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as ServerUnreachable,
)

from mnist_ops.adapters.s3.errors import translate
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The options of a connection take precedence over these. Some stores keep the framing of boto3's own
# checksums inside the object; our digests serve instead.
CLIENT_CONFIG = Config(
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=10,
)

# A role's keys are fetched when the client is made: the service that has them did not answer.
_NO_ANSWER = (CredentialRetrievalError, HTTPClientError, MetadataRetrievalError, ServerUnreachable)

# Images are fetched over this many connections; with more, the threads wait for each other.
_CONNECTIONS = 16


def s3_client(where: Connection) -> "S3Client":
    """Make a client of a connection.

    It reads the extras `aws_session_token`, `region_name`, `endpoint_url` and `config_kwargs`, which takes
    precedence over our own configuration. Roles and profiles need Airflow's own hook.

    Raises:
        UsageError: the client refuses the connection.
        Transient: the keys of a role could not be fetched.
    """
    extra: dict[str, Any] = dict(where.extra)
    with wrong_connections(where.name or "S3"):
        _check_endpoint(extra.get("endpoint_url"))
        own = Config(max_pool_connections=_CONNECTIONS).merge(CLIENT_CONFIG)
        return boto3.client(
            "s3",
            aws_access_key_id=where.login,
            aws_secret_access_key=where.password,
            aws_session_token=extra.get("aws_session_token"),
            region_name=extra.get("region_name"),
            endpoint_url=extra.get("endpoint_url"),
            config=own.merge(Config(**extra.get("config_kwargs", {}))),
        )


@contextmanager
def wrong_connections(name: str) -> Iterator[None]:
    """Raise what a client says of a connection as one of our errors, which names the connection.

    Raises:
        UsageError: the client refuses the connection.
        Transient: the keys of a role could not be fetched.
    """
    try:
        yield
    except PartialCredentialsError:
        raise UsageError(f"{name}: needs both a login (the access key) and a password (the secret)") from None
    except _NO_ANSWER as error:
        raise translate(name, error) from error
    except (BotoCoreError, ValueError, TypeError) as error:
        raise UsageError(f"{name}: {str(error).rstrip('.')}; correct the extra of the connection") from error


def _check_endpoint(url: object) -> None:
    """Check an endpoint before the client does, whose error would quote it."""
    if url is None:
        return
    try:
        address = urlsplit(str(url))
        is_valid = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("endpoint_url is not a URL such as http://host:8333")
