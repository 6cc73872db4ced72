"""Fetches images from S3, or from a store that speaks its protocol."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    ParamValidationError,
    ReadTimeoutError,
)

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.images import FetchedImage, FetchFailure, FetchOutcome, UnchangedImage, Validators
from mnist_ops.domain.reasons import Reason

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

_CHUNK = 64 << 10
# Access-point names (ARNs) are left out: they can lead to other regions and endpoints.
_URL = re.compile(
    r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([^\x00-\x1f\x7f\ud800-\udfff]{1,1024})", re.IGNORECASE
)
_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "404"})
_THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "TooManyRequestsException"})


class S3Images:
    """Fetches s3://bucket/key URLs. Implements `ImageFetcher`.

    The store is the operator's own, so it is trusted not to send slowly on purpose: the client's timeouts
    limit each single wait, and the total deadline is checked between chunks of a body. The client repeats
    failed requests as it is configured to; `attempts` and backoff of the policy are not used. There are as
    many threads as the client's pool has connections. They are kept from one `fetch` to the next; `close`
    ends them.

    Args:
        client: a boto3 S3 client.
        policy: its limits on body size, total seconds and read-ahead are used.
        clock: monotonic seconds.
    """

    def __init__(
        self, client: "S3Client", policy: FetchPolicy, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._policy = policy
        self._clock = clock
        # With more threads, some requests would each open and close a connection of their own.
        connections: int = client.meta.config.max_pool_connections  # type: ignore[attr-defined]  # not in stubs
        self._threads = ThreadPoolExecutor(connections, "s3-images")
        # Even bodies of the maximum size must fit into the read-ahead limit.
        self._ahead = min(policy.read_ahead_count, max(1, policy.read_ahead_bytes // policy.max_bytes))

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        source = iter(urls)
        pending: deque[Future[FetchOutcome]] = deque()
        try:
            while True:
                while len(pending) < self._ahead and (url := next(source, None)) is not None:
                    validators = None if known is None else known.get(url)
                    pending.append(self._threads.submit(self._outcome, url, validators))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            wait([future for future in pending if not future.cancel()])

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _outcome(self, url: str, known: Validators | None) -> FetchOutcome:
        try:
            return self._image(url, known)
        except ItemRejected as rejected:
            return FetchFailure(url, rejected.reason, rejected.detail)
        except ClientError as error:
            return _outcome_of_error(url, error.response, conditional=bool(_only_if(known)))
        except ParamValidationError as error:
            return FetchFailure(url, Reason.INVALID_URL, _detail(error))
        except (ConnectTimeoutError, ReadTimeoutError) as error:
            return FetchFailure(url, Reason.TIMEOUT, _detail(error))
        except BotoCoreError as error:
            # Also missing credentials: this reason is retried, so that a wrong setting loses no records.
            return FetchFailure(url, Reason.CONNECTION_FAILED, _detail(error))

    def _image(self, url: str, known: Validators | None) -> FetchedImage:
        parts = _URL.fullmatch(url)
        if parts is None:
            raise ItemRejected(Reason.INVALID_URL, "not of the form s3://bucket/key")
        if parts[1] not in self._policy.buckets:
            raise ItemRejected(
                Reason.BLOCKED_ADDRESS, f"bucket {parts[1]}: not in the list of allowed buckets"
            )
        deadline = self._clock() + self._policy.total_timeout_s
        # One byte more than allowed, so that an object of the maximum size differs from a larger one.
        range_ = f"bytes=0-{self._policy.max_bytes}"
        answer = self._client.get_object(Bucket=parts[1], Key=parts[2], Range=range_, **_only_if(known))
        payload = self._read(answer["Body"], deadline)
        validators = Validators(answer.get("ETag"), _http_date(answer.get("LastModified")))
        return FetchedImage(url, payload, None, validators if any(validators) else None)

    def _read(self, body: "StreamingBody", deadline: float) -> bytes:
        received = bytearray()
        try:
            while chunk := body.read(_CHUNK):
                received += chunk
                if len(received) > self._policy.max_bytes:
                    detail = f"the object is larger than {self._policy.max_bytes} bytes"
                    raise ItemRejected(Reason.TOO_LARGE, detail)
                if self._clock() > deadline:
                    detail = f"not complete after {self._policy.total_timeout_s:g} s"
                    raise ItemRejected(Reason.TIMEOUT, detail)
        finally:
            body.close()
        if not received:
            raise ItemRejected(Reason.NOT_AN_IMAGE, "the object is empty")
        return bytes(received)


def _only_if(known: Validators | None) -> dict[str, Any]:
    """The condition of the request; every object has an ETag, so its date is not needed."""
    etag = None if known is None else known.sendable.etag
    return {} if etag is None else {"IfNoneMatch": etag}


def _outcome_of_error(
    url: str, response: Mapping[str, Any], *, conditional: bool
) -> UnchangedImage | FetchFailure:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status == 304 and conditional:
        return UnchangedImage(url, status)
    if code in _MISSING or status == 404:
        reason = Reason.NOT_FOUND
    elif status == 416:
        return FetchFailure(url, Reason.NOT_AN_IMAGE, "the object is empty", status)
    elif code in _THROTTLED or status == 429:
        reason = Reason.RATE_LIMITED
    elif status >= 500:
        reason = Reason.SERVER_ERROR
    else:
        reason = Reason.REFUSED_BY_SERVER
    return FetchFailure(url, reason, f"S3 answered {code or status}", status or None)


def _http_date(when: datetime | None) -> str | None:
    return None if when is None else format_datetime(when.astimezone(UTC), usegmt=True)


def _detail(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
