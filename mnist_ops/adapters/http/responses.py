"""What the end of an HTTP request means for the image that was asked for."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import NamedTuple

import pycurl

from mnist_ops.domain.images import Validators
from mnist_ops.domain.reasons import Reason

LONGEST_RETRY_AFTER_S = 86_400.0
LONGEST_DETAIL = 200

# Errors that say more than that the connection failed.
_REASONS: Mapping[int, Reason] = MappingProxyType(
    {
        pycurl.E_OPERATION_TIMEDOUT: Reason.TIMEOUT,
        pycurl.E_FILESIZE_EXCEEDED: Reason.TOO_LARGE,
        pycurl.E_WRITE_ERROR: Reason.TOO_LARGE,
        pycurl.E_URL_MALFORMAT: Reason.INVALID_URL,
    }
)
# The byte cap was met while receiving.
CUT_OFF = frozenset({pycurl.E_FILESIZE_EXCEEDED, pycurl.E_WRITE_ERROR})
# A wrong certificate is as a rule an expired one, which its owner will renew: not permanent, but no
# second request within seconds will meet another one.
_NOT_WITHIN_SECONDS = frozenset({pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_ISSUER_ERROR})
_STATUS_REASONS: Mapping[int, Reason] = MappingProxyType(
    {
        404: Reason.NOT_FOUND,
        410: Reason.NOT_FOUND,
        # The server gave up waiting for the request; the standard lets the client repeat it.
        408: Reason.TIMEOUT,
        429: Reason.RATE_LIMITED,
    }
)
_OVERLOAD = frozenset({Reason.RATE_LIMITED, Reason.TIMEOUT, Reason.CONNECTION_FAILED})
# A proxy says so for a server behind it.
_GATEWAYS = frozenset({502, 503, 504})
_SECONDS = re.compile(rb"[0-9]+")
_E, _L = frozenset(b"Ee"), frozenset(b"Ll")


class Trouble(NamedTuple):
    """Why a request brought no image.

    Attributes:
        reason: from the closed list.
        detail: one line for people.
        http_status: when a server answered.
        retry_after_s: how long the server asked us to wait, in seconds.
        again: whether another request within seconds may do better.
    """

    reason: Reason
    detail: str
    http_status: int | None = None
    retry_after_s: float | None = None
    again: bool = False

    @property
    def overload(self) -> bool:
        """Whether it may come from asking the host too much."""
        return self.reason in _OVERLOAD or self.http_status in _GATEWAYS

    @property
    def busy(self) -> bool:
        """Whether the host said that it lives and cannot answer now."""
        return self.http_status == 503 or self.reason is Reason.RATE_LIMITED


def trouble_of_error(code: int, message: str, status: int, max_bytes: int) -> Trouble:
    """Judge a request that curl ended with an error.

    Args:
        code: curl's error code.
        message: curl's words for it.
        status: the HTTP status, 0 if none was received.
        max_bytes: the byte cap, for the detail.
    """
    reason = _REASONS.get(code, Reason.CONNECTION_FAILED)
    if reason is Reason.TOO_LARGE:
        detail = f"the body is larger than {max_bytes} bytes"
    else:
        detail = one_line(message) or f"curl error {code}"
    again = reason.transient and code not in _NOT_WITHIN_SECONDS
    return Trouble(reason, detail, status or None, again=again)


def trouble_of_status(status: int, head: Sequence[bytes], utcnow: Callable[[], datetime]) -> Trouble:
    """Judge a complete answer that brought no image.

    Args:
        status: the HTTP status.
        head: the answer's header lines.
        utcnow: the wall clock, for dates in the header.
    """
    if 200 <= status < 300:
        return Trouble(Reason.NOT_AN_IMAGE, "the body is empty", status)
    default = Reason.SERVER_ERROR if status >= 500 else Reason.REFUSED_BY_SERVER
    reason = _STATUS_REASONS.get(status, default)
    wait = retry_after_s(header(head, b"retry-after:"), utcnow) if status in {429, 503} else None
    return Trouble(reason, f"the server answered {status}", status, wait, again=reason.transient)


def header(head: Sequence[bytes], name: bytes) -> bytes:
    """The value of a header among header lines, the last one of that name; empty if there is none.

    Args:
        head: header lines.
        name: lower-case, with its colon.
    """
    lines = (line for line in reversed(head) if line[: len(name)].lower() == name)
    return next(lines, b"")[len(name) :].strip()


def validators_of(head: Sequence[bytes]) -> Validators | None:
    """What an answer's header lines say of its version; None where they say nothing that can be sent back."""
    etag = last_modified = None
    for line in head:
        # The first letter spares most lines the copy.
        if line[0] in _E and line[:5].lower() == b"etag:":
            etag = line[5:].decode("latin-1").strip()
        elif line[0] in _L and line[:14].lower() == b"last-modified:":
            last_modified = line[14:].decode("latin-1").strip()
    if etag is None and last_modified is None:
        return None
    validators = Validators(etag, last_modified).sendable
    return validators if any(validators) else None


def conditional_headers(validators: Validators) -> list[str]:
    """The header lines that ask for an answer only if it has another version than this one."""
    etag, last_modified = validators.sendable
    lines = [f"If-None-Match: {etag}"] if etag else []
    return [*lines, f"If-Modified-Since: {last_modified}"] if last_modified else lines


def retry_after_s(value: bytes, utcnow: Callable[[], datetime]) -> float | None:
    """Read a `Retry-After` header: seconds, or an HTTP date.

    Returns:
        Seconds from now, 0 to 86,400; None for what is neither.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        # Not int() of any length: a server may send a million digits.
        return min(float(value[:12]), LONGEST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(value[:64].decode("ascii"))
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((date - utcnow()).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def one_line(text: str) -> str:
    """Make what others wrote fit for a record: one printable line of at most 200 characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:LONGEST_DETAIL].strip()
