"""A TCP proxy in front of a MongoDB server that loses requests, or delivers them and loses the reply."""

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HEADER = struct.Struct("<iiii")  # length, request id, response to, operation
_OP_MSG = 2013
_KIND_AND_LENGTH = 5  # of an OP_MSG's first section, before the document's elements
_TIMEOUT_S = 10.0


class LossyProxy:
    """Forwards MongoDB's wire protocol, and loses the requests or replies that it is told to lose.

    Clients must connect with `directConnection=True`; else they discover the server and bypass the proxy.

    Attributes:
        port: where it listens, on 127.0.0.1.
        lost: the commands that were lost, or whose replies were, in order.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.lost: list[str] = []
        self._server_port = server_port
        self._requests_to_lose: list[str] = []
        self._replies_to_lose: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._listener: asyncio.Server | None = None
        self._accepted: list[tuple[asyncio.StreamWriter, asyncio.Task[None]]] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="lossy-proxy", daemon=True)

    def lose_reply_to(self, command: str, times: int = 1) -> None:
        """Deliver the next `times` of a command, wait for each reply, and close the connection without it."""
        self._replies_to_lose += [command] * times

    def lose_request(self, command: str, times: int = 1) -> None:
        """Close the connection instead of delivering the next `times` of a command: it is never executed."""
        self._requests_to_lose += [command] * times

    def cut(self) -> None:
        """Close all connections and accept no more: to its clients, the server has stopped."""
        self._run(self._cut())

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        """Close all connections and end the thread."""
        self._run(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_S)
        self._loop.close()

    def _run(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT_S)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
        own = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not own]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # A task that is cancelled before its first step never reaches its `finally`.
        for writer, _ in self._accepted:
            writer.transport.abort()
        self._accepted.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted.append((writer, self._loop.create_task(self._serve(reader, writer))))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        lost_replies: dict[int, str] = {}
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
            ends.append(to_server)
            await asyncio.gather(
                self._requests(reader, to_server, lost_replies),
                self._replies(from_server, writer, lost_replies),
            )
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side closed its connection, or we close it: both are closed below
        finally:
            for end in ends:
                end.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost_replies: dict[int, str]
    ) -> None:
        try:
            while True:
                message = await _message(reader)
                command = _command(message)
                if command in self._requests_to_lose:
                    self._requests_to_lose.remove(command)
                    self.lost.append(command)
                    return
                if command in self._replies_to_lose:
                    self._replies_to_lose.remove(command)
                    lost_replies[_HEADER.unpack_from(message)[1]] = command
                writer.write(message)
                await writer.drain()
        finally:
            writer.transport.abort()  # ends the other direction

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost_replies: dict[int, str]
    ) -> None:
        try:
            while True:
                message = await _message(reader)
                command = lost_replies.pop(_HEADER.unpack_from(message)[2], None)
                if command is not None:
                    self.lost.append(command)
                    return
                writer.write(message)
                await writer.drain()
        finally:
            writer.transport.abort()


@contextmanager
def lossy_proxy(server_port: int) -> Iterator[LossyProxy]:
    """Run a proxy in front of the server at 127.0.0.1:`server_port`."""
    proxy = LossyProxy(server_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


async def _message(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(_HEADER.size)
    return header + await reader.readexactly(_HEADER.unpack(header)[0] - _HEADER.size)


def _command(message: bytes) -> str | None:
    """The name of the command in a request: the first key of its first document."""
    if _HEADER.unpack_from(message)[3] != _OP_MSG:
        return None
    # After the header: four bytes of flags, the section's kind, the document's length, the element's type.
    start = _HEADER.size + 4 + _KIND_AND_LENGTH + 1
    return message[start : message.index(b"\0", start)].decode()
