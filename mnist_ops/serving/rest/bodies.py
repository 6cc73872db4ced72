"""The images of a request, read within limits of size, time and memory."""

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from mnist_ops.serving.problems import Problem
from mnist_ops.serving.rest.batching import MAX_BATCH, Overloaded
from mnist_ops.serving.rest.multipart import MultipartFiles, UploadedFile

MAX_BODY = 32 << 20  # bytes, of many files together
MAX_READING_S = 30.0  # for a whole body
_MULTIPART = "multipart/form-data"
_MULTIPART_HEADERS = 64 << 10  # bytes, around one file
_MAX_DIGITS = 15  # of a declared length
# The client may still be sending: without this, the server would read all of it.
_CLOSE = {"Connection": "close"}


class Budget:
    """How many bytes of images may be in memory at once, over all requests.

    Args:
        max_bytes: more are refused.
    """

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self._free = max_bytes
        self._lock = threading.Lock()

    def share(self) -> "Share":
        """The bytes of one request."""
        return Share(self)

    def take(self, count: int) -> None:
        """Take some bytes; a negative number gives them back.

        Raises:
            Overloaded: there are not that many.
        """
        with self._lock:
            if count > self._free:
                raise Overloaded("too many large images are read at present")
            self._free -= count


class Share:
    """The bytes that one request has taken from a budget: a context, at whose end they are given back.

    Attributes:
        taken: how many.
    """

    def __init__(self, budget: Budget) -> None:
        self.taken = 0
        self._budget = budget

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.take(-self.taken)

    def take(self, count: int) -> None:
        """Take some more. Raises Overloaded if there are not that many."""
        self._budget.take(count)
        self.taken += count


async def read_image(request: Request, share: Share, max_bytes: int) -> bytes:
    """The image of a request: its raw body, or the one file of a multipart body.

    Raises:
        Problem: 400, 408, 413, 415: it is empty, unreadable, slow, too large, or of another type.
        Overloaded: too much is read at present.
        ClientDisconnect: nobody waits for an answer.
    """
    if _type_of(request) == _MULTIPART:
        (file,) = await _read_files(request, share, 1, max_bytes, max_bytes + _MULTIPART_HEADERS)
        if file.size > max_bytes:
            raise _too_large(max_bytes)
        payload = file.content
    else:
        _require_readable(request, max_bytes)
        return await read_payload(request.receive, share, max_bytes)
    return _not_empty(payload)


async def read_payload(receive: Receive, share: Share, max_bytes: int) -> bytes:
    """The image that is a request's raw body.

    Raises:
        Problem: 400, 408, 413: it is empty, slow or too large.
        Overloaded, ClientDisconnect: as `read_image`.
    """
    pieces: list[bytes] = []
    await _read(receive, share, max_bytes, pieces.append)
    return _not_empty(b"".join(pieces))


def _not_empty(payload: bytes) -> bytes:
    if not payload:
        raise Problem(
            400, "There is no image", "Send its bytes as the body, or as a file of a multipart body."
        )
    return payload


async def read_files(request: Request, share: Share, max_bytes: int) -> list[UploadedFile]:
    """The files of a multipart body, 1 to 64; those over `max_bytes` are cut off there.

    Raises:
        Problem, Overloaded, ClientDisconnect: as `read_image`.
    """
    if _type_of(request) != _MULTIPART:
        raise _other_type(request, f"Send {_MULTIPART} with one part named files for each image.")
    return await _read_files(request, share, MAX_BATCH, max_bytes, MAX_BODY)


async def _read_files(
    request: Request, share: Share, max_files: int, max_bytes: int, max_body: int
) -> list[UploadedFile]:
    files = MultipartFiles(request.headers["content-type"], max_files=max_files, max_bytes=max_bytes)
    _require_readable(request, max_body)
    await _read(request.receive, share, max_body, files.write)
    return files.finish()


def _require_readable(request: Request, max_bytes: int) -> None:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise _other_type(request, "Send the body without a Content-Encoding.")
    if not is_within(request.headers.get("content-length", "0"), max_bytes):
        raise _too_large(max_bytes)


def is_within(declared: str, max_bytes: int) -> bool:
    """Whether a body of a declared length is allowed; without a number, what is read decides."""
    return not declared.isdecimal() or (len(declared) <= _MAX_DIGITS and int(declared) <= max_bytes)


async def _read(receive: Receive, share: Share, max_bytes: int, write: Callable[[bytes], object]) -> None:
    """Read a body piece by piece, whatever length was declared, and write each."""
    size, more = 0, True
    try:
        async with asyncio.timeout(MAX_READING_S):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                more, piece = message.get("more_body", False), message.get("body", b"")
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                share.take(len(piece))
                write(piece)
    except TimeoutError as error:
        detail = f"The body took longer than {MAX_READING_S:.0f} seconds."
        raise Problem(408, "The request is too slow", detail, headers=_CLOSE) from error


def _type_of(request: Request) -> str:
    """The content type, in lower case; raw bodies may do without.

    Raises:
        Problem: 415, it is neither an image nor unspecific bytes nor multipart.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind not in ("application/octet-stream", _MULTIPART):
        raise _other_type(request, f"Send image/*, application/octet-stream or {_MULTIPART}.")
    return kind


def _other_type(request: Request, advice: str) -> Problem:
    kind = request.headers.get("content-type", "none")
    return Problem(415, "The type of the body is not accepted", f"Its Content-Type is {kind}. {advice}")


def _too_large(max_bytes: int) -> Problem:
    detail = f"The limit is {max_bytes:,} bytes."
    return Problem(413, "The image is too large", detail, headers=_CLOSE, reason="too_large")
