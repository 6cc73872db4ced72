"""What the end of an HTTP request means: failures with their reasons, and the headers that matter."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import pycurl

from mnist_ops.domain.images import Validators
from mnist_ops.domain.reasons import Reason

LONGEST_RETRY_AFTER_S = 86_400.0
LONGEST_DETAIL = 200

# All other errors of curl are `connection_failed`.
_ERROR_REASONS = {
    pycurl.E_OPERATION_TIMEDOUT: Reason.TIMEOUT,
    pycurl.E_FILESIZE_EXCEEDED: Reason.TOO_LARGE,
    pycurl.E_WRITE_ERROR: Reason.TOO_LARGE,
    pycurl.E_URL_MALFORMAT: Reason.INVALID_URL,
}
# The body reached the byte cap.
TOO_LARGE_ERRORS = frozenset({pycurl.E_FILESIZE_EXCEEDED, pycurl.E_WRITE_ERROR})
# Most invalid certificates have expired and their owners renew them: transient, but a retry within seconds
# meets the same certificate.
_CERTIFICATE_ERRORS = frozenset({pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_ISSUER_ERROR})
_STATUS_REASONS = {
    404: Reason.NOT_FOUND,
    410: Reason.NOT_FOUND,
    # The server waited too long for the request; RFC 9110 allows the client to repeat it.
    408: Reason.TIMEOUT,
    429: Reason.RATE_LIMITED,
}
_OVERLOAD_REASONS = frozenset({Reason.RATE_LIMITED, Reason.TIMEOUT, Reason.CONNECTION_FAILED})
# 502 and 504 come from a proxy whose server fails.
_OVERLOAD_STATUSES = frozenset({502, 503, 504})
_SECONDS = re.compile(rb"[0-9]+")
_E, _L = frozenset(b"Ee"), frozenset(b"Ll")


class RequestFailure(NamedTuple):
    """Why a request returned no image.

    Attributes:
        reason: from the closed list.
        detail: one line for people.
        http_status: when a server answered.
        retry_after_s: the server's `Retry-After`, in seconds.
        retryable: whether another request within seconds may succeed.
    """

    reason: Reason
    detail: str
    http_status: int | None = None
    retry_after_s: float | None = None
    retryable: bool = False

    @property
    def overload(self) -> bool:
        """Whether too many requests to the host may have caused it."""
        return self.reason in _OVERLOAD_REASONS or self.http_status in _OVERLOAD_STATUSES

    @property
    def busy(self) -> bool:
        """Whether the host is alive and says that it cannot answer now (429 or 503)."""
        return self.http_status == 503 or self.reason is Reason.RATE_LIMITED


def failure_from_error(code: int, message: str, status: int, max_bytes: int) -> RequestFailure:
    """The failure of a request that curl ended with an error; the status is 0 if none was received."""
    reason = _ERROR_REASONS.get(code, Reason.CONNECTION_FAILED)
    if reason is Reason.TOO_LARGE:
        detail = f"the body is larger than {max_bytes} bytes"
    else:
        detail = one_line(message) or f"curl error {code}"
    retryable = reason.transient and code not in _CERTIFICATE_ERRORS
    return RequestFailure(reason, detail, status or None, retryable=retryable)


def failure_from_status(
    status: int, header_lines: Sequence[bytes], utcnow: Callable[[], datetime]
) -> RequestFailure:
    """The failure of a request with a complete response that has no image."""
    if 200 <= status < 300:
        return RequestFailure(Reason.NOT_AN_IMAGE, "the body is empty", status)
    default = Reason.SERVER_ERROR if status >= 500 else Reason.REFUSED_BY_SERVER
    reason = _STATUS_REASONS.get(status, default)
    wait_s = retry_after_s(header(header_lines, b"retry-after:"), utcnow) if status in {429, 503} else None
    detail = f"the server answered {status}"
    return RequestFailure(reason, detail, status, wait_s, retryable=reason.transient)


def header(header_lines: Sequence[bytes], name: bytes) -> bytes:
    """The value in the last line of a header, whose name is in lower case with its colon; empty if none."""
    lines = (line for line in reversed(header_lines) if line[: len(name)].lower() == name)
    return next(lines, b"")[len(name) :].strip()


def validators_of(header_lines: Sequence[bytes]) -> Validators | None:
    """The validators in a response's header lines; None if none of them can be sent back."""
    etag = last_modified = None
    for line in header_lines:
        # Most lines begin with another letter: looking at it first saves the copy of the name.
        if line[0] in _E and line[:5].lower() == b"etag:":
            etag = line[5:].decode("latin-1").strip()
        elif line[0] in _L and line[:14].lower() == b"last-modified:":
            last_modified = line[14:].decode("latin-1").strip()
    if etag is None and last_modified is None:
        return None
    validators = Validators(etag, last_modified).sendable
    return validators if any(validators) else None


def conditional_headers(validators: Validators) -> list[str]:
    """The header lines of a request for an image only if it differs from the one with these validators."""
    etag, last_modified = validators.sendable
    lines = [f"If-None-Match: {etag}"] if etag else []
    return [*lines, f"If-Modified-Since: {last_modified}"] if last_modified else lines


def retry_after_s(value: bytes, utcnow: Callable[[], datetime]) -> float | None:
    """Parse the value of a `Retry-After` header: seconds, or an HTTP date.

    Returns:
        Seconds from now, 0 to 86,400; None if the value is neither.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        # A server may send a million digits; twelve are enough to reach the maximum.
        return min(float(value[:12]), LONGEST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(value[:64].decode("ascii"))
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((date - utcnow()).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def one_line(text: str) -> str:
    """Make foreign text safe to store in a record: one printable line of at most 200 characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:LONGEST_DETAIL].strip()
