"""Objects in S3, or in a store that speaks its protocol."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
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

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# Of the refusals (3xx and 4xx), those that may be granted later.
_LATER = frozenset({408, 409, 429})
# A task's next try has fresh credentials.
_LATER_CODES = frozenset({"ExpiredToken", "RequestTimeout", "SlowDown", "TokenRefreshRequired"})
_REFUSALS = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"})
_WRONG_SETTINGS = (
    NoCredentialsError,
    PartialCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ParamValidationError,
)
_MEBIBYTE = 1 << 20

# Some stores keep the framing of boto3's own checksums inside the object; our digests serve instead.
CLIENT_CONFIG = Config(
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"mode": "standard", "total_max_attempts": 5},
)


class S3Objects:
    """The objects of one bucket under one prefix.

    Args:
        client: a boto3 S3 client, made with `CLIENT_CONFIG`.
        bucket: the bucket's name.
        prefix: put before every key; no slash at its ends; may be empty.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        # Threads would write a large object's pieces out of order on a busy disk for no gain at these sizes.
        self._transfer = TransferConfig(
            multipart_threshold=16 * _MEBIBYTE, multipart_chunksize=16 * _MEBIBYTE, use_threads=False
        )
        self._counting = threading.Lock()
        self._requests: Counter[str] = Counter()
        client.meta.events.register("before-send.s3", self._count)

    def _count(self, event_name: str, **_: object) -> None:
        with self._counting:
            self._requests[event_name.rpartition(".")[2]] += 1

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests were made, by S3 operation, retries included."""
        return self._requests

    def uri(self, key: str) -> str:
        """Where a key's object lies, written yet or not."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def put_bytes(self, key: str, data: bytes) -> str:
        """Write a small object and return its URI."""
        with _translating(self.uri(key)):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)
        return self.uri(key)

    def put_file(self, key: str, path: Path) -> str:
        """Write a file of any size, in pieces, and return its URI."""
        with _translating(self.uri(key)):
            self._client.upload_file(str(path), self._bucket, self._prefix + key, Config=self._transfer)
        return self.uri(key)

    def get_bytes(self, uri: str) -> bytes:
        """Read a small object."""
        bucket, key = split_uri(uri)
        with _translating(uri):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def get_file(self, uri: str, path: Path) -> None:
        """Read an object of any size into a file."""
        bucket, key = split_uri(uri)
        with _translating(uri):
            self._client.download_file(bucket, key, str(path), Config=self._transfer)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix; stores differ in their order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with _translating(self.uri(prefix)):
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"].removeprefix(self._prefix)

    def ensure_bucket(self) -> None:
        """Make the bucket where it does not exist yet."""
        try:
            with _translating(self.uri("")):
                self._client.head_bucket(Bucket=self._bucket)
        except ObjectMissing:
            with _translating(self.uri("")):
                self._client.create_bucket(Bucket=self._bucket)


def split_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key of an `s3://bucket/key` URI.

    Raises:
        Permanent: not such a URI.
    """
    scheme, bucket, path, query, fragment = urlsplit(uri)
    if scheme != "s3" or not bucket or len(path) < 2 or query or fragment:
        raise Permanent(f"{uri!r}: expected s3://<bucket>/<key>")
    return bucket, path[1:]


@contextmanager
def _translating(what: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error, S3DownloadFailedError, S3ValidationError) as error:
        raise translate(what, error) from error


def translate(what: str, error: Exception) -> MnistOpsError:
    """A client's error as one of ours: what may work later is transient.

    Args:
        what: the object's URI.
        error: of boto3, botocore or s3transfer.
    """
    # A transfer manager wraps what its client said.
    cause = error if isinstance(error, ClientError) else error.__cause__ or error.__context__
    if isinstance(cause, ClientError):
        return _of_client_error(what, cause)
    if isinstance(error, _WRONG_SETTINGS) or isinstance(cause, _WRONG_SETTINGS):
        return Permanent(f"{what}: {error}")
    return Transient(f"{what}: {error}")


def _of_client_error(what: str, error: ClientError) -> MnistOpsError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return ObjectMissing(f"{what}: no such object")
    refused = 300 <= status < 500 and status not in _LATER and code not in _LATER_CODES
    if refused or code in _REFUSALS:
        return Permanent(f"{what}: {error}")
    return Transient(f"{what}: {error}")
