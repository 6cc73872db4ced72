"""The outcome of fetching one image, and the validators that tell whether an image has changed."""

from typing import NamedTuple

from mnist_ops.domain.reasons import Reason

_LONGEST_VALIDATOR = 256

# Tuples, because there are millions of them: a frozen dataclass takes four times as long to create.


class Validators(NamedTuple):
    """HTTP validators: what a response says about its version (RFC 9110, section 8.8).

    Attributes:
        etag: the entity tag as it was sent, with its quotes.
        last_modified: the `Last-Modified` date as it was sent.
    """

    etag: str | None
    last_modified: str | None

    @property
    def sendable(self) -> "Validators":
        """Those that may go into a request header: printable ASCII of at most 256 characters.

        So neither a server nor a stored file can inject a header into our requests.
        """
        return Validators(*(value if value and _is_plain(value) else None for value in self))


class FetchedImage(NamedTuple):
    """The bytes behind a URL.

    Attributes:
        url: the requested URL, before redirects.
        payload: the body, at most the byte cap.
        http_status: the final status; None for s3:// URLs.
        validators: for a later conditional request; None if the response had none, or came after a
            redirect, because they then belong to another URL.
    """

    url: str
    payload: bytes
    http_status: int | None
    validators: Validators | None = None


class UnchangedImage(NamedTuple):
    """The bytes behind a URL have not changed since the response that its validators come from.

    Attributes:
        url: the requested URL.
        http_status: 304.
    """

    url: str
    http_status: int | None


class FetchFailure(NamedTuple):
    """Why there are no bytes behind a URL.

    Attributes:
        url: the requested URL.
        reason: from the closed list.
        detail: one line for people.
        http_status: the final status, if a server answered.
        retry_after_s: the server's `Retry-After`, in seconds, if it sent one.
    """

    url: str
    reason: Reason
    detail: str
    http_status: int | None = None
    retry_after_s: float | None = None


def _is_plain(value: str) -> bool:
    return len(value) <= _LONGEST_VALIDATOR and value.isascii() and value.isprintable()


FetchOutcome = FetchedImage | UnchangedImage | FetchFailure
