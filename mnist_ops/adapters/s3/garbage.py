"""Listing objects with their ages, and deleting them, in S3 or in a store that speaks its protocol."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mnist_ops.adapters.s3.errors import translating
from mnist_ops.domain.retention import StoredObject, UnfinishedUpload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The maximum of DeleteObjects.
_KEYS_PER_REQUEST = 1_000


class S3GarbageStore:
    """Lists and deletes the objects of one bucket under one prefix. Implements `GarbageStore`.

    Args:
        client: a boto3 S3 client.
        bucket: the bucket's name.
        prefix: of all keys; no slash at its ends; may be empty.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys begin with a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with translating(self._uri(prefix)):
            for page in pages:
                for entry in page.get("Contents", []):
                    key = entry["Key"].removeprefix(self._prefix)
                    yield StoredObject(key, entry["Size"], entry["LastModified"])

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Delete objects; returns the store's message for each that it did not delete, by key."""
        failed = {}
        for start in range(0, len(keys), _KEYS_PER_REQUEST):
            chosen = keys[start : start + _KEYS_PER_REQUEST]
            with translating(self._uri(chosen[0])):
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
        """The multipart uploads below a prefix that were neither completed nor aborted."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with translating(self._uri(prefix)):
            for page in pages:
                for upload in page.get("Uploads", []):
                    # Some stores ignore the prefix.
                    if upload["Key"].startswith(self._prefix + prefix):
                        key = upload["Key"].removeprefix(self._prefix)
                        yield UnfinishedUpload(key, upload["UploadId"], upload["Initiated"])

    def abort(self, upload: UnfinishedUpload) -> None:
        """Abort an upload; does nothing where it no longer exists."""
        with translating(self._uri(upload.key)), suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._prefix + upload.key, UploadId=upload.id
            )

    def _uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"
