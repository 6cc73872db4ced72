"""curl handles that ask for one URL after another and never connect to a forbidden address.

Measured over loopback (2 cores): `perform` and `select` cost a third less CPU a request than
`socket_action` under epoll, whose callbacks run in Python for every socket and request.
"""

import itertools
import math
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pycurl

from mnist_ops.adapters.http.read_ahead import Errand
from mnist_ops.adapters.http.responses import Trouble, conditional_headers, trouble_of_error
from mnist_ops.domain.addresses import forbidden_because
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.reasons import Reason

_USER_AGENT = "mnist-ops-fetch/1"
_HEADERS = ["Accept-Encoding: identity"]
# From 8.4.0 on the cap on bodies holds while they are received.
_CURL_CAPS = pycurl.version_info()[2] >= 0x080400
# Timers within curl (the next address to try, a slow resolver) are looked at at least so often.
_LONGEST_WAIT_S = 0.1
# Transfers that have lasted for so long take no room from others.
_LONG_S = 1.0
# `select` cannot watch descriptors from 1,024 on and then returns at once: such waits are slept.
_UNWATCHED_WAIT_S = 0.001


class SocketAddress(Protocol):
    """What curl tells of the address it is about to connect to."""

    family: int
    socktype: int
    protocol: int
    addr: tuple[Any, ...]


class Transfer:
    """A reusable curl handle, what it was sent for, and what it has received of its present answer.

    Args:
        policy: the limits.
        resolve: answers to use instead of DNS, as curl writes them (`host:port:address[,address]`).
        ca_file: certificates to trust instead of the system's.

    Attributes:
        curl: the handle, to be added to a multi handle.
        errand: whom it works for.
        body: the body so far.
        head: the header lines so far, interim answers' and trailers' too.
    """

    __slots__ = (
        "_conditional",
        "_exempt_port",
        "_max_bytes",
        "_refused",
        "_sockets",
        "_timeout_ms",
        "body",
        "curl",
        "errand",
        "head",
    )

    errand: Errand

    def __init__(self, policy: FetchPolicy, resolve: Sequence[str] = (), ca_file: Path | None = None) -> None:
        self._max_bytes = policy.max_bytes
        self._conditional = False
        self._exempt_port: int | None = None
        self._refused: str | None = None
        self._sockets: list[socket.socket] = []
        self._timeout_ms = 0
        # One buffer, not a list of pieces: pieces of two bytes would take twenty times their size.
        self.body = bytearray()
        self.head: list[bytes] = []
        self.curl = curl = pycurl.Curl()
        for option, value in (
            (pycurl.OPENSOCKETFUNCTION, self._open_socket),
            # Methods of built-in types: no Python code runs for what is received.
            (pycurl.WRITEFUNCTION, self.body.extend if _CURL_CAPS else self._received),
            (pycurl.HEADERFUNCTION, self.head.append),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            # Redirects are followed by us: each hop is checked like a new URL.
            (pycurl.FOLLOWLOCATION, 0),
            # A proxy would connect in our place, to addresses that we never see.
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            # HTTP/2 where a server offers it within TLS. Curl shares such a connection among requests to
            # one host and port, never with another name; our limits count requests, not connections.
            # PIPEWAIT would save the first few connections, but without HTTP/2 it waits for a first answer.
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.HTTPHEADER, _HEADERS),
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

    def aim(self, errand: Errand, timeout_s: float) -> None:
        """Prepare for an errand's request.

        Args:
            errand: whom to work for.
            timeout_s: seconds until it is ended, whatever it is doing.
        """
        self.errand = errand
        host = errand.host
        self._exempt_port = host.port if host.exempt else None
        self._refused = None
        # To a hundredth: most requests then need no other setting than the last.
        timeout_ms = max(1, int(timeout_s * 100) * 10)
        if timeout_ms != self._timeout_ms:
            self._timeout_ms = timeout_ms
            self.curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)
        if errand.known is not None or self._conditional:
            # What one URL said of its version means nothing at another.
            lines = [] if errand.known is None or errand.hops else conditional_headers(errand.known)
            self.curl.setopt(pycurl.HTTPHEADER, _HEADERS + lines)
            self._conditional = bool(lines)
        self.curl.setopt(pycurl.URL, errand.target)

    @property
    def status(self) -> int:
        """The HTTP status of the answer; 0 if there was none."""
        code: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        return code

    @property
    def location(self) -> str | None:
        """Where the answer redirects to, made absolute by curl."""
        found: str | None = self.curl.getinfo(pycurl.REDIRECT_URL)
        return found

    @property
    def conditional(self) -> bool:
        """Whether the request asked for an answer only if it has changed."""
        return self._conditional

    def drop(self) -> None:
        """Forget the answer, and close what is not curl's."""
        # Curl works with a duplicate of each descriptor that it was given.
        while self._sockets:
            self._sockets.pop().close()
        self.body.clear()
        self.head.clear()

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
        """Called by versions of curl that look at their own cap only before they receive."""
        self.body += chunk
        return 0 if len(self.body) > self._max_bytes else None


class Transfers:
    """The curl handles of one fetcher, and the connections they share.

    Args:
        policy: the limits.
        resolve: answers to use instead of DNS.
        ca_file: certificates to trust instead of the system's.

    Attributes:
        policy: the limits.
        active: the transfers under way by their handles, the oldest first.
    """

    def __init__(self, policy: FetchPolicy, resolve: Sequence[str] = (), ca_file: Path | None = None) -> None:
        self.policy = policy
        self.active: dict[pycurl.Curl, Transfer] = {}
        self._resolve = resolve
        self._ca_file = ca_file
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, 2 * policy.concurrency)
        self._idle: list[Transfer] = []
        self._long = 0
        self._counted_at = -math.inf

    def spare(self, now: float) -> bool:
        """Whether there may be more than `concurrency` transfers, as so many of them are long ones."""
        most = self.policy.concurrency
        if not 0.0 <= now - self._counted_at < _LONGEST_WAIT_S:
            self._counted_at = now
            started = (transfer.errand.started for transfer in self.active.values())
            self._long = sum(1 for _ in itertools.takewhile(lambda when: now - when > _LONG_S, started))
        return len(self.active) < most + min(self._long, most)

    def start(self, errand: Errand, timeout_s: float) -> None:
        """Begin an errand's request, which is ended after `timeout_s` seconds whatever it is doing."""
        idle = self._idle
        transfer = idle.pop() if idle else Transfer(self.policy, self._resolve, self._ca_file)
        transfer.aim(errand, timeout_s)
        self.active[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)

    def end(self, transfer: Transfer) -> None:
        """Take a request out, ended or not, and keep its handle for another one."""
        del self.active[transfer.curl], transfer.errand
        self._multi.remove_handle(transfer.curl)
        transfer.drop()
        self._idle.append(transfer)

    def end_all(self) -> None:
        """Take all requests out."""
        for transfer in list(self.active.values()):
            self.end(transfer)

    def advance(self) -> tuple[list[pycurl.Curl], list[tuple[pycurl.Curl, int, str]]]:
        """Let all requests advance; returns those that ended well, and badly: handle, error code, message."""
        self._multi.perform()
        _, done, failed = self._multi.info_read()
        return done, failed

    def wait(self, longest_s: float) -> None:
        """Wait until a request can advance, at most `longest_s` seconds."""
        timer_ms = self._multi.timeout()
        timer_s = timer_ms / 1000 if timer_ms >= 0 else _LONGEST_WAIT_S
        wait_s = max(0.0, min(longest_s, timer_s, _LONGEST_WAIT_S))
        if not self.active:
            time.sleep(wait_s)
        elif not self._multi.select(wait_s):
            time.sleep(min(wait_s, _UNWATCHED_WAIT_S))

    def close(self) -> None:
        """Close all connections and handles."""
        self.end_all()
        for transfer in self._idle:
            transfer.curl.close()
        self._idle.clear()
        self._multi.close()
