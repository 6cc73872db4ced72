"""What became of an attempt to fetch one image."""

from dataclasses import dataclass

from mnist_ops.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """The bytes behind a URL.

    Attributes:
        url: the URL that was asked for, before redirects.
        payload: the body, at most the byte cap.
        http_status: the final status; None for s3:// URLs.
    """

    url: str
    payload: bytes
    http_status: int | None


@dataclass(frozen=True, slots=True)
class FetchFailure:
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
