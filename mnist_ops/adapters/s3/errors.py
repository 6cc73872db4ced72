"""boto3's errors as the project's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from s3transfer.exceptions import S3DownloadFailedError, S3ValidationError

from mnist_ops.domain.errors import MnistOpsError, ObjectMissing, Permanent, Transient

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# Of the statuses 3xx and 4xx, those with which a later try may succeed.
_TRANSIENT_STATUSES = frozenset({408, 409, 429})
# The next try of a task has fresh credentials, and starts its uploads again. An upload that was completed
# twice, because the first answer came too late, no longer exists.
_TRANSIENT_CODES = frozenset(
    {"ExpiredToken", "NoSuchUpload", "RequestTimeout", "SlowDown", "TokenRefreshRequired"}
)
_PERMANENT_CODES = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"})
_WRONG_SETTINGS = (
    NoCredentialsError,
    PartialCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ParamValidationError,
)


@contextmanager
def translating(uri: str) -> Iterator[None]:
    """Raise the client's errors within the block as ours; `uri` is what the block is about."""
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error, S3DownloadFailedError, S3ValidationError) as error:
        raise translate(uri, error) from error


def translate(uri: str, error: Exception) -> MnistOpsError:
    """Return an error of boto3, botocore or s3transfer as ours: `Transient` where a retry may succeed."""
    # A transfer manager wraps the error of its client.
    cause = error if isinstance(error, ClientError) else error.__cause__ or error.__context__
    if isinstance(cause, ClientError):
        return _of_client_error(uri, cause)
    if isinstance(error, _WRONG_SETTINGS) or isinstance(cause, _WRONG_SETTINGS):
        return Permanent(f"{uri}: {error}")
    return Transient(f"{uri}: {error}")


def _of_client_error(uri: str, error: ClientError) -> MnistOpsError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return ObjectMissing(f"{uri}: no such object")
    refused = 300 <= status < 500 and status not in _TRANSIENT_STATUSES and code not in _TRANSIENT_CODES
    if refused or code in _PERMANENT_CODES:
        return Permanent(f"{uri}: {error}")
    return Transient(f"{uri}: {error}")
