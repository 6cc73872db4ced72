"""curl handles that ask for one URL after another and never connect to a forbidden address.

Measured over loopback (2 cores): `perform` and `select` cost a third less CPU a request than
`socket_action` under epoll, whose callbacks run in Python for every socket and request.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pycurl

from mnist_ops.adapters.http_answers import Trouble, trouble_of_error
from mnist_ops.domain.addresses import forbidden_because
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.image_urls import HttpUrl
from mnist_ops.domain.reasons import Reason

_USER_AGENT = "mnist-ops-fetch/1"
# Timers within curl (the next address to try, a slow resolver) are looked at at least so often.
_LONGEST_WAIT_S = 0.1
# `select` cannot watch descriptors from 1,024 on and then returns at once: such waits are slept.
_UNWATCHED_WAIT_S = 0.001


class SocketAddress(Protocol):
    """What curl tells of the address it is about to connect to."""

    family: int
    socktype: int
    protocol: int
    addr: tuple[Any, ...]


class HeldBytes:
    """How many bytes of bodies one fetcher holds: under way, or not yet taken by its reader."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Transfer:
    """A reusable curl handle and what it has received of its present answer.

    Args:
        policy: the limits.
        held: counts what is received.
        resolve: answers to use instead of DNS, as curl writes them (`host:port:address[,address]`).
        ca_file: certificates to trust instead of the system's.

    Attributes:
        curl: the handle, to be added to a multi handle.
        retry_after: the value of that header, if it came.
    """

    __slots__ = (
        "_chunks",
        "_exempt_port",
        "_held",
        "_max_bytes",
        "_refused",
        "_sockets",
        "_timeout_ms",
        "curl",
        "retry_after",
        "size",
    )

    def __init__(
        self, policy: FetchPolicy, held: HeldBytes, resolve: Sequence[str] = (), ca_file: Path | None = None
    ) -> None:
        self._held = held
        self._max_bytes = policy.max_bytes
        self._chunks: list[bytes] = []
        self._exempt_port: int | None = None
        self._refused: str | None = None
        self._sockets: list[socket.socket] = []
        self._timeout_ms = 0
        self.size = 0
        self.retry_after = b""
        self.curl = curl = pycurl.Curl()
        for option, value in (
            (pycurl.OPENSOCKETFUNCTION, self._open_socket),
            (pycurl.WRITEFUNCTION, self._received),
            (pycurl.HEADERFUNCTION, self._header),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            # Redirects are followed by us: each hop is checked like a new URL.
            (pycurl.FOLLOWLOCATION, 0),
            # A proxy would connect in our place, to addresses that we never see.
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            # One request a connection at a time, so that the limits on connections mean requests.
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.HTTPHEADER, ["Accept-Encoding: identity"]),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.USERAGENT, _USER_AGENT),
            (pycurl.CONNECTTIMEOUT_MS, int(policy.connect_timeout_s * 1000)),
            (pycurl.MAXFILESIZE_LARGE, policy.max_bytes),
            (pycurl.NOSIGNAL, 1),
        ):
            curl.setopt(option, value)
        if resolve:
            curl.setopt(pycurl.RESOLVE, list(resolve))
        if ca_file is not None:
            curl.setopt(pycurl.CAINFO, str(ca_file))

    def aim(self, url: HttpUrl, timeout_s: float, *, exempt: bool) -> None:
        """Prepare for a request.

        Args:
            url: what to ask for.
            timeout_s: seconds until it is ended, whatever it is doing.
            exempt: whether this host and port may have a forbidden address.
        """
        self.drop()
        self._exempt_port = url.port if exempt else None
        self._refused = None
        self.retry_after = b""
        timeout_ms = max(1, int(timeout_s * 1000))
        if timeout_ms != self._timeout_ms:
            self._timeout_ms = timeout_ms
            self.curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)
        self.curl.setopt(pycurl.URL, url.text)

    @property
    def status(self) -> int:
        """The HTTP status of the answer; 0 if there was none."""
        return int(self.curl.getinfo(pycurl.RESPONSE_CODE))

    @property
    def location(self) -> str | None:
        """Where the answer redirects to, made absolute by curl."""
        found: str | None = self.curl.getinfo(pycurl.REDIRECT_URL)
        return found

    def take(self) -> bytes:
        """Hand over the body; it stays counted as held until its reader has taken it."""
        payload = b"".join(self._chunks)
        self._chunks.clear()
        self.size = 0
        return payload

    def drop(self) -> None:
        """Forget the body, and close what is not curl's."""
        # Curl works with a duplicate of each descriptor that it was given.
        while self._sockets:
            self._sockets.pop().close()
        self._held.count -= self.size
        self._chunks.clear()
        self.size = 0

    def trouble(self, code: int, message: str) -> Trouble:
        """Judge the error that curl ended the request with."""
        # Where some of a name's addresses were allowed, it is they that did not answer.
        if self._refused is not None and not self._sockets:
            return Trouble(Reason.BLOCKED_ADDRESS, self._refused)
        return trouble_of_error(code, message, self.status, self._max_bytes)

    def _open_socket(self, purpose: int, address: SocketAddress) -> socket.socket | int:
        """Called by curl with every address that it is about to connect to, redirects included."""
        del purpose
        bad: int = pycurl.SOCKET_BAD
        if address.family not in (socket.AF_INET, socket.AF_INET6):
            self._refused = "the address is neither IPv4 nor IPv6"
            return bad
        host, port = str(address.addr[0]), address.addr[1]
        why = forbidden_because(host)
        if why is not None and port != self._exempt_port:
            self._refused = why
            return bad
        opened = socket.socket(address.family, address.socktype, address.protocol)
        self._sockets.append(opened)
        return opened

    def _received(self, chunk: bytes) -> int | None:
        self.size += len(chunk)
        self._held.count += len(chunk)
        # Older versions of curl look at their own cap only before they receive.
        if self.size > self._max_bytes:
            return 0
        self._chunks.append(chunk)
        return None

    def _header(self, line: bytes) -> None:
        if line[:1] in b"Rr" and line[:12].lower() == b"retry-after:":
            self.retry_after = line[12:]


class Transfers:
    """The curl handles of one fetcher, and the connections they share.

    Args:
        policy: the limits.
        resolve: answers to use instead of DNS.
        ca_file: certificates to trust instead of the system's.

    Attributes:
        policy: the limits.
        held: the bytes of bodies that the fetcher holds.
    """

    def __init__(self, policy: FetchPolicy, resolve: Sequence[str] = (), ca_file: Path | None = None) -> None:
        self.policy = policy
        self.held = HeldBytes()
        self._resolve = resolve
        self._ca_file = ca_file
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, policy.concurrency)
        self._idle: list[Transfer] = []

    def borrow(self) -> Transfer:
        """A handle for one request."""
        if self._idle:
            return self._idle.pop()
        return Transfer(self.policy, self.held, self._resolve, self._ca_file)

    def start(self, transfer: Transfer) -> None:
        """Begin the request that a handle is aimed at."""
        self._multi.add_handle(transfer.curl)

    def stop(self, transfer: Transfer) -> None:
        """Take a request out, ended or not."""
        self._multi.remove_handle(transfer.curl)

    def give_back(self, transfer: Transfer) -> None:
        """Return a handle, for another request."""
        transfer.drop()
        self._idle.append(transfer)

    def ended(self) -> Iterator[tuple[Any, int, str]]:
        """Let all requests advance; yields the ended ones: curl handle, error code or 0, message."""
        self._multi.perform()
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl in done:
                yield curl, 0, ""
            yield from failed

    def wait(self, longest_s: float) -> None:
        """Wait until a request can advance, at most `longest_s` seconds."""
        timer_ms = self._multi.timeout()
        timer_s = timer_ms / 1000 if timer_ms >= 0 else _LONGEST_WAIT_S
        wait_s = max(0.0, min(longest_s, timer_s, _LONGEST_WAIT_S))
        if not self._multi.select(wait_s):
            time.sleep(min(wait_s, _UNWATCHED_WAIT_S))

    def close(self) -> None:
        """Close all connections and handles."""
        for transfer in self._idle:
            transfer.curl.close()
        self._idle.clear()
        self._multi.close()
