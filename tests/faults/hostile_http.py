"""An HTTP server that misbehaves on request, and a listener that must get no connection."""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Exchange:
    """One request, and the connection to answer it on.

    Attributes:
        path: the requested path, without the first slash.
        nth: how many requests for this path came before.
        headers: the request's headers, names in lower case.
        server: the server that received it.
        connection: the socket to answer on.
        keep: whether the connection stays open after the response.
    """

    path: str
    nth: int
    headers: dict[str, str]
    server: "HostileServer"
    connection: socket.socket
    keep: bool = True

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.server.sent += len(data)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        lines = {"Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + body)

    def trickle(self, data: bytes, pause_s: float) -> None:
        """Send one byte at a time, until all are sent or the server stops."""
        for number in data:
            self.send(bytes([number]))
            if self.server.stopping.wait(pause_s):
                return

    def pause(self, seconds: float) -> None:
        self.server.stopping.wait(seconds)

    def hang_up(self) -> None:
        self.keep = False


Route = Callable[[Exchange], None]


@dataclass
class HostileServer:
    """Answers by the first segment of the path; 404 if there is no route.

    Attributes:
        routes: by first segment of the path.
        host: where to listen; the port is chosen by the system.
        tls: makes it an HTTPS server.
        requests: the number of requests by path.
        received: the headers of each request.
        connections: accepted connections.
        open: connections that are open now.
        busiest: the most requests in progress at once.
        sent: bytes given to the kernel.
    """

    routes: Mapping[str, Route]
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    requests: Counter[str] = field(default_factory=Counter)
    received: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    busiest: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy = 0
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((self.host, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.host_port = f"{self.host}:{self.port}"

    def url(self, path: str) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host_port}/{path}"

    def __enter__(self) -> Self:
        self._listener.settimeout(0.05)
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.open += 1
        try:
            connection.settimeout(5)
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            connection.settimeout(0.05)
            while self._exchange(connection):
                pass
        except (OSError, ssl.SSLError):
            # The client may close the connection at any time.
            pass
        finally:
            connection.close()
            with self._lock:
                self.open -= 1

    def _exchange(self, connection: socket.socket) -> bool:
        head = self._head(connection)
        if not head:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        path = first.split(" ")[1].lstrip("/")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        with self._lock:
            exchange = Exchange(path, self.requests[path], headers, self, connection)
            self.requests[path] += 1
            self.received.append(headers)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            connection.settimeout(5)
            self.routes.get(path.partition("/")[0], _not_found)(exchange)
            connection.settimeout(0.05)
        finally:
            with self._lock:
                self._busy -= 1
        return exchange.keep

    def _head(self, connection: socket.socket) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            try:
                data = connection.recv(65536)
            except TimeoutError:
                if self.stopping.is_set():
                    return b""
                continue
            if not data:
                return b""
            head += data
        return head.removesuffix(b"\r\n\r\n")


class Canary:
    """A listener that counts connections; the kernel accepts them for it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.create_server((host, port))
        self._listener.settimeout(0)
        self.host = host
        self.port: int = self._listener.getsockname()[1]

    def connections(self) -> int:
        """The number of connections since the last call."""
        count = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return count
            connection.close()
            count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()


def _not_found(exchange: Exchange) -> None:
    exchange.answer(404, b"nothing here")
