"""Objects in S3, or in a store that speaks its protocol."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from boto3.s3.transfer import TransferConfig

from mnist_ops.adapters.s3.errors import translating
from mnist_ops.adapters.s3.upload import PART_SIZE, S3Upload
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.ports import ObjectRange
from mnist_ops.domain.retention import StoredObject, UnfinishedUpload

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

# The maximum of DeleteObjects.
_KEYS_PER_REQUEST = 1_000
_UPLOADS = frozenset({"PutObject", "UploadPart"})


class S3Objects:
    """The objects of one bucket under one prefix. Implements `ObjectStore` and `GarbageStore`.

    Args:
        client: a boto3 S3 client, made with `CLIENT_CONFIG`.
        bucket: the bucket's name.
        prefix: put before every key; no slash at its ends; may be empty.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        # With threads, the parts of a large object would be written out of order on a busy disk; at these
        # sizes they gain nothing.
        self._transfer = TransferConfig(
            multipart_threshold=PART_SIZE, multipart_chunksize=PART_SIZE, use_threads=False
        )
        self._counting = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        client.meta.events.register("before-send.s3", self._count_request)
        client.meta.events.register("response-received.s3.GetObject", self._count_answer)

    def _count_request(self, event_name: str, request: "AWSPreparedRequest", **_: object) -> None:
        operation = event_name.rpartition(".")[2]
        with self._counting:
            self._requests[operation] += 1
            if operation in _UPLOADS:
                self._bytes["sent"] += int(request.headers.get("Content-Length", 0))

    def _count_answer(self, response_dict: Mapping[str, Any] | None, **_: object) -> None:
        if response_dict is not None and response_dict["status_code"] < 300:
            with self._counting:
                self._bytes["received"] += int(response_dict["headers"].get("Content-Length", 0))

    @property
    def requests(self) -> Mapping[str, int]:
        """The number of requests, by S3 operation, retries included."""
        return self._requests

    @property
    def moved(self) -> Mapping[str, int]:
        """The bytes of objects that were `sent` and `received`, retries included."""
        return self._bytes

    def upload_requests(self, size: int) -> Mapping[str, int]:
        """The requests of `put_file` for this many bytes, by S3 operation, without retries."""
        if size < PART_SIZE:
            return {"PutObject": 1}
        return {"CreateMultipartUpload": 1, "UploadPart": -(-size // PART_SIZE), "CompleteMultipartUpload": 1}

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def put_bytes(self, key: str, data: bytes) -> str:
        with translating(self.uri(key)):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)
        return self.uri(key)

    def put_file(self, key: str, path: Path) -> str:
        """Write a file of any size, in parts, and return its URI."""
        with translating(self.uri(key)):
            self._client.upload_file(str(path), self._bucket, self._prefix + key, Config=self._transfer)
        return self.uri(key)

    def upload(self, key: str) -> S3Upload:
        return S3Upload(self._client, self._bucket, self._prefix + key)

    def get_bytes(self, uri: str) -> bytes:
        bucket, key = split_uri(uri)
        with translating(uri):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def get_range(self, uri: str, start: int, length: int) -> ObjectRange:
        bucket, key = split_uri(uri)
        wanted = f"bytes={start}" if start < 0 else f"bytes={start}-{start + length - 1}"
        with translating(uri):
            answer = self._client.get_object(Bucket=bucket, Key=key, Range=wanted)
            data = answer["Body"].read()
        sent = answer.get("ContentRange")  # such as `bytes 0-99/1234`
        if not sent:  # a server may send the whole object
            return ObjectRange(data[start:][:length], len(data))
        return ObjectRange(data[:length], int(sent.rpartition("/")[2]))

    def get_file(self, uri: str, path: Path) -> None:
        bucket, key = split_uri(uri)
        with translating(uri):
            self._client.download_file(bucket, key, str(path), Config=self._transfer)

    def keys(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with translating(self.uri(prefix)):
            for page in pages:
                for entry in page.get("Contents", []):
                    key = entry["Key"].removeprefix(self._prefix)
                    yield StoredObject(key, entry["Size"], entry["LastModified"])

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        failed = {}
        for start in range(0, len(keys), _KEYS_PER_REQUEST):
            chosen = keys[start : start + _KEYS_PER_REQUEST]
            with translating(self.uri(chosen[0])):
                answer = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": self._prefix + key} for key in chosen], "Quiet": True},
                )
            for error in answer.get("Errors", []):
                if error.get("Code") != "NoSuchKey":
                    message = f"{error.get('Code')}: {error.get('Message')}"
                    failed[error.get("Key", "").removeprefix(self._prefix)] = message
        return failed

    def unfinished_uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with translating(self.uri(prefix)):
            for page in pages:
                for upload in page.get("Uploads", []):
                    # Some stores ignore the prefix.
                    if upload["Key"].startswith(self._prefix + prefix):
                        key = upload["Key"].removeprefix(self._prefix)
                        yield UnfinishedUpload(key, upload["UploadId"], upload["Initiated"])

    def abort(self, upload: UnfinishedUpload) -> None:
        with translating(self.uri(upload.key)), suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._prefix + upload.key, UploadId=upload.id
            )

    def ensure_bucket(self) -> None:
        """Create the bucket where it does not exist yet."""
        with translating(self.uri("")):
            try:
                # Not HeadBucket, whose answers have no body: any web server would do.
                self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
            except self._client.exceptions.NoSuchBucket:
                self._client.create_bucket(Bucket=self._bucket, **_location(self._client.meta.region_name))


def _location(region: str) -> dict[str, Any]:
    """What CreateBucket needs in a region; S3 refuses to be told its first one, which is also the default."""
    if region in ("us-east-1", "aws-global"):
        return {}
    return {"CreateBucketConfiguration": {"LocationConstraint": region}}


def split_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of an `s3://bucket/key` URI.

    Raises:
        UsageError: it is no such URI.
    """
    scheme, bucket, path, query, fragment = urlsplit(uri)
    if scheme != "s3" or not bucket or len(path) < 2 or query or fragment:
        raise UsageError(f"{uri!r}: expected s3://<bucket>/<key>")
    return bucket, path[1:]
