"""Objects in S3, or in a store that speaks its protocol."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
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
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger(__name__)

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# Of the refusals (3xx and 4xx), those that may be granted later.
_LATER = frozenset({408, 409, 429})
# The next try of a task has fresh credentials, and begins its uploads anew: one whose completion was answered
# too late, and was asked for again, is no longer there.
_LATER_CODES = frozenset(
    {"ExpiredToken", "NoSuchUpload", "RequestTimeout", "SlowDown", "TokenRefreshRequired"}
)
_REFUSALS = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"})
_WRONG_SETTINGS = (
    NoCredentialsError,
    PartialCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ParamValidationError,
)
_MEBIBYTE = 1 << 20
# Larger files go in several pieces of this size.
_PIECE = 16 * _MEBIBYTE
# So many of an object's pieces are on their way while its next one fills.
_PIECES_AHEAD = 2
_UPLOADS = frozenset({"PutObject", "UploadPart"})

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
            multipart_threshold=_PIECE, multipart_chunksize=_PIECE, use_threads=False
        )
        self._counting = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._moved: Counter[str] = Counter()
        client.meta.events.register("before-send.s3", self._count_request)
        client.meta.events.register("response-received.s3.GetObject", self._count_answer)

    def _count_request(self, event_name: str, request: "AWSPreparedRequest", **_: object) -> None:
        operation = event_name.rpartition(".")[2]
        with self._counting:
            self._requests[operation] += 1
            if operation in _UPLOADS:
                self._moved["sent"] += int(request.headers.get("Content-Length", 0))

    def _count_answer(self, response_dict: Mapping[str, Any] | None, **_: object) -> None:
        if response_dict is not None and response_dict["status_code"] < 300:
            with self._counting:
                self._moved["received"] += int(response_dict["headers"].get("Content-Length", 0))

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests were made, by S3 operation, retries included."""
        return self._requests

    @property
    def moved(self) -> Mapping[str, int]:
        """How many bytes of objects were `sent` and `received`, repeated ones included."""
        return self._moved

    def upload_requests(self, size: int) -> Mapping[str, int]:
        """What `put_file` asks for so many bytes, by S3 operation, where nothing has to be repeated."""
        if size < _PIECE:
            return {"PutObject": 1}
        return {"CreateMultipartUpload": 1, "UploadPart": -(-size // _PIECE), "CompleteMultipartUpload": 1}

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

    def upload(self, key: str) -> "S3Upload":
        """Begin an object whose bytes are still to come."""
        return S3Upload(self._client, self._bucket, self._prefix + key)

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


class S3Upload:
    """An object in the making: one request if it stays small, else in pieces that go up as they fill.

    At most `_PIECES_AHEAD` pieces are on their way while the next one fills, so that memory is bounded and
    whoever writes faster than the store takes waits.

    Args:
        client: a boto3 S3 client, made with `CLIENT_CONFIG`.
        bucket: the bucket's name.
        key: the object's whole key.
    """

    def __init__(self, client: "S3Client", bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._uri = f"s3://{bucket}/{key}"
        self._filling = bytearray()
        self._id: str | None = None
        self._sending: deque[Future[str]] = deque()
        self._etags: list[str] = []
        self._threads: ThreadPoolExecutor | None = None

    def write(self, data: bytes) -> None:
        """Add bytes; every full piece goes up at once."""
        self._filling += data
        while len(self._filling) >= _PIECE:
            piece = bytes(memoryview(self._filling)[:_PIECE])
            del self._filling[:_PIECE]
            self._send(piece)

    def finish(self) -> str:
        """Put the object there, whole, and return its URI."""
        with _translating(self._uri):
            if self._id is None:
                self._client.put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._filling))
                return self._uri
            if self._filling:
                self._send(bytes(self._filling))
            while self._sending:
                self._etags.append(self._sending.popleft().result())
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": etag}
                        for number, etag in enumerate(self._etags, start=1)
                    ]
                },
            )
        self._id = None
        self._end_threads()
        return self._uri

    def abort(self) -> None:
        """Give it up: the pieces that went up are removed, since a store keeps and charges for them."""
        self._end_threads()
        if self._id is None:
            return
        try:
            with _translating(self._uri):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._id)
        except MnistOpsError as error:
            _log.warning("%s: upload %s may have left pieces behind: %s", self._uri, self._id, error)
        self._id = None

    def _send(self, piece: bytes) -> None:
        with _translating(self._uri):
            if self._threads is None:
                self._id = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)[
                    "UploadId"
                ]
                self._threads = ThreadPoolExecutor(_PIECES_AHEAD, thread_name_prefix="mnist-ops-upload")
            if len(self._sending) == _PIECES_AHEAD:
                self._etags.append(self._sending.popleft().result())
            number = len(self._etags) + len(self._sending) + 1
            self._sending.append(self._threads.submit(self._put_piece, number, piece))

    def _put_piece(self, number: int, piece: bytes) -> str:
        return self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=str(self._id), PartNumber=number, Body=piece
        )["ETag"]

    def _end_threads(self) -> None:
        """Wait for the pieces on their way: one that arrives after the upload is aborted would stay."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


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
