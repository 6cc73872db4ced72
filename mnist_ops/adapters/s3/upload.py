"""A multipart upload whose bytes come piece by piece."""

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mnist_ops.adapters.s3.errors import translating
from mnist_ops.domain.errors import MnistOpsError
from mnist_ops.domain.outcome_lines import log_lines, wrapped

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger(__name__)

# Bytes of each part of a multipart upload; a smaller object goes up in one request.
PART_SIZE = 16 << 20
# Parts of one object that go up at a time, while the next one fills.
_PARTS_IN_FLIGHT = 2


class S3Upload:
    """An object that is written piece by piece. Implements `Upload`.

    A small one goes up in one request, a larger one as a multipart upload: each part goes up as soon as it is
    full. Up to `_PARTS_IN_FLIGHT` parts are in flight while the next one fills. Memory is therefore bounded,
    and a writer that is faster than the store waits. `key` is the object's whole key.
    """

    def __init__(self, client: "S3Client", bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._uri = f"s3://{bucket}/{key}"
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._in_flight: deque[Future[str]] = deque()
        self._etags: list[str] = []
        self._threads: ThreadPoolExecutor | None = None

    def write(self, data: bytes) -> None:
        """Add bytes; every full part goes up at once."""
        self._buffer += data
        while len(self._buffer) >= PART_SIZE:
            part = bytes(memoryview(self._buffer)[:PART_SIZE])
            del self._buffer[:PART_SIZE]
            self._send(part)

    def finish(self) -> str:
        with translating(self._uri):
            if self._upload_id is None:
                self._client.put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer))
                return self._uri
            if self._buffer:
                self._send(bytes(self._buffer))
            while self._in_flight:
                self._etags.append(self._in_flight.popleft().result())
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": etag}
                        for number, etag in enumerate(self._etags, start=1)
                    ]
                },
            )
        self._upload_id = None
        self._end_threads()
        return self._uri

    def abort(self) -> None:
        """Abort the upload, which removes its parts: a store keeps and charges for them. Never raises."""
        self._end_threads()
        if self._upload_id is None:
            return
        try:
            with translating(self._uri):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
                )
        except MnistOpsError as error:
            why = str(error).removeprefix(f"{self._uri}: ")
            # URI and id are long words, and people copy them.
            lines = ["This upload may have left parts behind:", f"  {self._uri}", f"  {self._upload_id}"]
            log_lines(_log, [*lines, *wrapped(f"It could not be aborted: {why}")], logging.WARNING)
        self._upload_id = None

    def _send(self, part: bytes) -> None:
        with translating(self._uri):
            if self._threads is None:
                created = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)
                self._upload_id = created["UploadId"]
                self._threads = ThreadPoolExecutor(_PARTS_IN_FLIGHT, thread_name_prefix="mnist-ops-upload")
            if len(self._in_flight) == _PARTS_IN_FLIGHT:
                self._etags.append(self._in_flight.popleft().result())
            number = len(self._etags) + len(self._in_flight) + 1
            self._in_flight.append(self._threads.submit(self._put_part, number, part))

    def _put_part(self, number: int, part: bytes) -> str:
        return self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=str(self._upload_id), PartNumber=number, Body=part
        )["ETag"]

    def _end_threads(self) -> None:
        """Wait for the parts in flight: a part that arrives after the abort would stay in the store."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
