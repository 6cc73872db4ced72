"""What the end of an HTTP request means for the image that was asked for."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import NamedTuple

import pycurl

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
_SECONDS = re.compile(rb"[0-9]+")


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


def trouble_of_status(status: int, retry_after: bytes, utcnow: Callable[[], datetime]) -> Trouble:
    """Judge a complete answer whose status is no success.

    Args:
        status: the HTTP status.
        retry_after: the value of that header, empty if it was not sent.
        utcnow: the wall clock, for dates in the header.
    """
    default = Reason.SERVER_ERROR if status >= 500 else Reason.REFUSED_BY_SERVER
    reason = _STATUS_REASONS.get(status, default)
    wait = retry_after_s(retry_after, utcnow) if status in {429, 503} else None
    return Trouble(reason, f"the server answered {status}", status, wait, again=reason.transient)


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
