"""boto3's errors as the project's own: one line with the object or the server, the cause, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointProviderError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import (
    ConnectionError as ServerUnreachable,
)
from s3transfer.exceptions import S3DownloadFailedError, S3ValidationError

from mnist_ops.domain.connections import connection_error
from mnist_ops.domain.errors import MnistOpsError, ObjectMissing, Permanent, Transient, UsageError

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# Of the statuses 3xx and 4xx, those with which a later try may succeed.
_TRANSIENT_STATUSES = frozenset({408, 409, 429})
# The next try of a task has fresh credentials, and starts its uploads again. An upload that was completed
# twice, because the first answer came too late, no longer exists.
_TRANSIENT_CODES = frozenset(
    {"ExpiredToken", "NoSuchUpload", "RequestTimeout", "SlowDown", "TokenRefreshRequired"}
)
_REGION = "the bucket is in another region; correct region_name in the extra of the connection to S3"
# What to do about an error, by S3's code; HEAD has only the status.
_REMEDIES = {
    "InvalidAccessKeyId": "the access key is unknown; correct the login of the connection to S3",
    "SignatureDoesNotMatch": "the secret key is wrong; correct the password of the connection to S3",
    "AccessDenied": "access denied; allow it for the access key, or correct the bucket's name",
    "403": "access denied; correct the keys of the connection to S3, or the bucket's name",
    "NoSuchBucket": "no such bucket; create it (`mnist-ops init`), or correct MNIST_OPS_S3_BUCKET",
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
}
_EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired"})
_WRONG_SETTINGS = (
    EndpointProviderError,
    PartialCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ParamValidationError,
)
_NOT_S3 = "a web server answers, not S3; correct endpoint_url in the extra of the connection to S3"
_ENDLESS = "maximum recursion depth"  # botocore follows the redirects of a web server for ever


@contextmanager
def translating(uri: str) -> Iterator[None]:
    """Raise the client's errors within the block as ours; `uri` is what the block is about."""
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error, S3DownloadFailedError, S3ValidationError) as error:
        raise translate(uri, error) from error
    except RecursionError:
        raise Permanent(f"{uri}: {_NOT_S3}") from None


def translate(uri: str, error: Exception) -> MnistOpsError:
    """Return an error of boto3, botocore or s3transfer as ours: `Transient` where a retry may succeed."""
    # A transfer manager wraps the error of its client.
    cause = error if isinstance(error, ClientError) else error.__cause__ or error.__context__
    if isinstance(cause, ClientError):
        return _of_client_error(uri, cause)
    for each in (error, cause):
        if isinstance(each, NoCredentialsError):
            # The connection has no keys of its own: the metadata service of a role may have timed out.
            return Transient(
                f"{uri}: no credentials; give the connection to S3 a login (the access key) and a password "
                "(the secret), or, if the machine has a role, see why its metadata service did not answer"
            )
        if isinstance(each, _WRONG_SETTINGS):
            return UsageError(f"{uri}: {_one_line(each)}; correct the connection to S3, or the settings")
        if isinstance(each, HTTPClientError | ServerUnreachable):
            details = getattr(each, "kwargs", {})
            address = urlsplit(str(details.get("endpoint_url", ""))).netloc
            what = f"{each} {details.get('error', '')}"
            if _ENDLESS in what:
                return Permanent(f"{uri}: {_NOT_S3}")
            return connection_error("S3", [address] if address else [], what)
    return Transient(f"{uri}: {_one_line(error)}")


def _of_client_error(uri: str, error: ClientError) -> MnistOpsError:
    answer = error.response.get("ResponseMetadata", {})
    status = answer.get("HTTPStatusCode", 0)
    code = str(error.response.get("Error", {}).get("Code", ""))
    if "html" in answer.get("HTTPHeaders", {}).get("content-type", ""):
        # A proxy in front of S3 may say so too, for a while.
        return (Permanent if status < 500 else Transient)(f"{uri}: {_NOT_S3}")
    if code in _MISSING:
        return ObjectMissing(f"{uri}: no such object")
    if code in _EXPIRED:
        return Transient(f"{uri}: the credentials have expired; renew the keys of the connection to S3")
    if code in _REMEDIES:
        return Permanent(f"{uri}: {_REMEDIES[code]}")
    refused = 300 <= status < 500 and status not in _TRANSIENT_STATUSES and code not in _TRANSIENT_CODES
    return (Permanent if refused else Transient)(f"{uri}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
