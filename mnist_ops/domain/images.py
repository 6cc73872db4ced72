"""What became of an attempt to fetch one image."""

from typing import NamedTuple

from mnist_ops.domain.reasons import Reason

_LONGEST_VALIDATOR = 256

# Tuples, because millions are made: a frozen dataclass takes four times as long to make.


class Validators(NamedTuple):
    """What a server says of an answer's version, for asking later whether it has changed.

    Attributes:
        etag: the entity tag as it was sent, quotes and all.
        last_modified: the `Last-Modified` date as it was sent.
    """

    etag: str | None
    last_modified: str | None

    @property
    def sendable(self) -> "Validators":
        """Those of them that a request may carry: printable ASCII of at most 256 characters.

        No server, and no file that was kept, can make us send a header that it thought up.
        """
        return Validators(*(value if value and _is_plain(value) else None for value in self))


class FetchedImage(NamedTuple):
    """The bytes behind a URL.

    Attributes:
        url: the URL that was asked for, before redirects.
        payload: the body, at most the byte cap.
        http_status: the final status; None for s3:// URLs.
        validators: what a later fetch may ask with; None where the answer had none, or where it was
            another URL that gave it.
    """

    url: str
    payload: bytes
    http_status: int | None
    validators: Validators | None = None


class UnchangedImage(NamedTuple):
    """The bytes behind a URL are still those that its known validators came with.

    Attributes:
        url: the URL that was asked for.
        http_status: 304.
    """

    url: str
    http_status: int | None


class FetchFailure(NamedTuple):
    """Why there are no bytes behind a URL.

    Attributes:
        url: the URL that was asked for.
        reason: why, from the closed list.
        detail: one line for people.
        http_status: the final status, when a server answered.
        retry_after_s: how long the server asked us to wait, in seconds, when it did.
    """

    url: str
    reason: Reason
    detail: str
    http_status: int | None = None
    retry_after_s: float | None = None


def _is_plain(value: str) -> bool:
    return len(value) <= _LONGEST_VALIDATOR and value.isascii() and value.isprintable()


FetchOutcome = FetchedImage | UnchangedImage | FetchFailure
