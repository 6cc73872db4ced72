"""A small, quick HTTP/1.1 server for the files of one folder: the sample digits.

`python -m mnist_ops.local.image_server --port 8334 --root FOLDER`. It knows GET and HEAD, keeps connections
alive, answers pipelined requests in order and conditional ones with 304. Files are read whole: it is made
for images of a few kilobytes.
"""

import argparse
import asyncio
import mimetypes
import os
import sys
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.local.readiness import Probe, request
from mnist_ops.local.service import Service, inherited_environment

NAME = "images"

_LONGEST_HEAD = 16_384


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    etag: str
    keep_alive: bool


def service(layout: Layout, ports: Ports) -> Service:
    """Describe the image server's process; it serves `layout.images`."""
    command = (
        *(sys.executable, "-m", "mnist_ops.local.image_server"),
        *("--port", str(ports.images), "--root", str(layout.images)),
    )
    return Service(NAME, command, inherited_environment(), probe(ports))


def url(ports: Ports) -> str:
    """Return the URL of the served folder, without a slash at its end."""
    return f"http://{HOST}:{ports.images}"


def probe(ports: Ports) -> Probe:
    """Return the question whether the image server answers."""
    return lambda: None if request(url(ports)) else f"an answer at {HOST}:{ports.images}"


def find(root: str, target: str) -> str | None:
    """Return the file below `root` that a request target names, or None if there is none there.

    Args:
        root: the folder, absolute and without symbolic links.
        target: as the request line has it: percent-encoded, maybe with a query.
    """
    relative = unquote(target.partition("?")[0]).lstrip("/")
    if "\0" in relative:
        return None
    # realpath also follows symbolic links, so that none of them leads out of the folder.
    path = os.path.realpath(os.path.join(root, relative))  # noqa: PTH118  (pathlib takes ten times as long)
    return path if path.startswith(root + os.sep) else None


class _Connection(asyncio.Protocol):
    """One client: cuts its bytes into requests and answers them in order."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream server makes stream transports

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end], self._received[end + 4 :]
            asked = _parse(head)
            if asked is None:
                transport.write(_plain(HTTPStatus.BAD_REQUEST, keep_alive=False))
                transport.close()
                return
            transport.write(_answer(self._root, asked))
            if not asked.keep_alive:
                transport.close()
                return
        if len(self._received) > _LONGEST_HEAD:
            transport.write(_plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, keep_alive=False))
            transport.close()


def _parse(head: bytes) -> _Request | None:
    """Read a request's head; None for what this server does not understand, such as a request with a body."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"} or not words[1].startswith("/"):
        return None
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return None
    wish = headers.get("connection", "").lower()
    keep_alive = wish == "keep-alive" if words[2] == "HTTP/1.0" else wish != "close"
    return _Request(words[0], words[1], headers.get("if-none-match", ""), keep_alive)


def _answer(root: str, asked: _Request) -> bytes:
    if asked.method not in {"GET", "HEAD"}:
        return _plain(HTTPStatus.METHOD_NOT_ALLOWED, keep_alive=asked.keep_alive)
    path = find(root, asked.target)
    try:
        if path is None:
            raise FileNotFoundError
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (pathlib adds a third to each request)
            state = os.fstat(file.fileno())
            content = file.readall()
    except OSError:
        # A folder raises as well; there is nothing to list here.
        return _plain(HTTPStatus.NOT_FOUND, keep_alive=asked.keep_alive, with_body=asked.method == "GET")
    etag = f'"{state.st_size:x}-{state.st_mtime_ns:x}"'
    about = (f"ETag: {etag}", f"Last-Modified: {formatdate(state.st_mtime, usegmt=True)}")
    if etag == asked.etag:
        return _head(HTTPStatus.NOT_MODIFIED, *about, keep_alive=asked.keep_alive)
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    head = _head(
        HTTPStatus.OK,
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        *about,
        keep_alive=asked.keep_alive,
    )
    return head + content if asked.method == "GET" else head


def _plain(status: HTTPStatus, *, keep_alive: bool, with_body: bool = True) -> bytes:
    body = f"{status.value} {status.phrase}\n".encode("ascii")
    allow = ("Allow: GET, HEAD",) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()
    described = ("Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", *allow)
    return _head(status, *described, keep_alive=keep_alive) + (body if with_body else b"")


def _head(status: HTTPStatus, *lines: str, keep_alive: bool) -> bytes:
    connection = "keep-alive" if keep_alive else "close"
    first = f"HTTP/1.1 {status.value} {status.phrase}"
    return "\r\n".join((first, *lines, f"Connection: {connection}", "", "")).encode("latin-1")


async def serve(root: str, port: int) -> None:
    """Serve the files below `root`, which is absolute and without links, on 127.0.0.1 until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(root), HOST, port, backlog=1024)
    async with server:
        await server.serve_forever()


def main(arguments: list[str] | None = None) -> None:
    """Run the server from the command line until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="the port to listen on, on 127.0.0.1")
    parser.add_argument("--root", type=Path, required=True, help="the folder to serve")
    given = parser.parse_args(arguments)
    asyncio.run(serve(str(given.root.resolve()), given.port))


if __name__ == "__main__":
    main()
