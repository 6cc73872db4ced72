"""A client that keeps a number of connections busy, over asyncio's protocols: it takes little time itself."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import uvloop

from mnist_ops.local.ports import HOST


@dataclass(frozen=True)
class Load:
    """What a server did under load.

    Attributes:
        seconds: how long it lasted.
        requests: how many were answered.
        p50_s: half of them took no longer, from their first byte to the last one of the answer, in seconds.
        p99_s: 99 of 100 took no longer.
    """

    seconds: float
    requests: int
    p50_s: float
    p99_s: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def drive(port: int, payloads: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send images to `/predict`, each connection one after the other, for some seconds.

    A connection that the server closes is opened again; that counts as part of the next request.

    Raises:
        RuntimeError: an answer was not 200.
        OSError: nothing listens.
    """
    return uvloop.run(_drive(port, [_request(payload) for payload in payloads], connections, seconds))


def _request(payload: bytes) -> bytes:
    head = ("POST /predict HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(payload)}", "", "")
    return "\r\n".join(head).encode() + payload


async def _drive(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    latencies: list[float] = []
    started = time.perf_counter()

    async def keep_busy(number: int) -> None:
        loop = asyncio.get_running_loop()
        while time.perf_counter() < started + seconds:
            connection = _Connection(requests, number * 31, latencies, started + seconds)
            await loop.create_connection(lambda connection=connection: connection, HOST, port)
            await connection.closed
            number += 1

    await asyncio.gather(*map(keep_busy, range(connections)))
    seconds, count = time.perf_counter() - started, len(latencies)
    latencies.sort()
    return Load(seconds, count, latencies[count // 2], latencies[count * 99 // 100])


class _Connection(asyncio.Protocol):
    """Sends a request, and the next one when its answer is there, until a time."""

    def __init__(self, requests: Sequence[bytes], first: int, latencies: list[float], until: float) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests, self._next = requests, first
        self._latencies, self._until = latencies, until
        self._received = b""
        self._started = time.perf_counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        lower = head.lower()
        if not separator or len(body) < int(lower.partition(b"content-length:")[2].split(maxsplit=1)[0]):
            return
        now = time.perf_counter()
        if b" 200 " not in head[:16]:
            self.closed.set_exception(RuntimeError(self._received.decode(errors="replace")))
            self._transport.abort()
            return
        self._latencies.append(now - self._started)
        self._received = b""
        if now < self._until and b"connection: close" not in lower:
            self._started = now
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.closed.done():
            return
        if error is not None:
            self.closed.set_exception(error)
        else:
            self.closed.set_result(None)

    def _send(self) -> None:
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1
