"""curl handles that request one URL after another and never connect to a blocked address.

Why `perform` and `select`: over loopback (2 cores) they cost a third less CPU a request than
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

from mnist_ops.adapters.http.hosts import FetchTask
from mnist_ops.adapters.http.responses import RequestFailure, conditional_headers, failure_from_error
from mnist_ops.domain.addresses import block_reason
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.reasons import Reason

_USER_AGENT = "mnist-ops-fetch/1"
_HEADERS = ["Accept-Encoding: identity"]
# From 8.4.0 on curl also checks MAXFILESIZE while it receives a body of unstated length.
_CURL_CAPS_BODIES = pycurl.version_info()[2] >= 0x080400
# curl's own timers (the next address to try, a slow resolver) are checked at least this often.
_LONGEST_WAIT_S = 0.1
# A transfer that has lasted this long is slow: it does not count against `concurrency`.
_SLOW_AFTER_S = 1.0
# `select` cannot watch descriptors from 1,024 on and returns at once if there are no others: then we sleep.
_UNWATCHED_WAIT_S = 0.001


class SocketAddress(Protocol):
    """The address that curl is about to connect to."""

    family: int
    socktype: int
    protocol: int
    addr: tuple[Any, ...]


class Transfer:
    """A reusable curl handle, its current task, and what it has received of the response.

    Attributes:
        curl: the handle, to be added to a multi handle.
        task: whose request this is.
        conditional: whether the request has validators, so that a 304 means that the image has not changed.
        header_lines: the header lines so far, also those of interim responses and trailers.
    """

    # Unset while the handle is idle.
    task: FetchTask

    def __init__(self, policy: FetchPolicy, resolve: Sequence[str] = (), ca_file: Path | None = None) -> None:
        self._max_bytes = policy.max_bytes
        self.conditional = False
        self._exempt_port: int | None = None
        self._blocked: str | None = None
        self._sockets: list[socket.socket] = []
        self._timeout_ms = 0
        # One buffer, not a list of chunks: chunks of two bytes would take twenty times their size.
        self.body = bytearray()
        self.header_lines: list[bytes] = []
        self.curl = curl = pycurl.Curl()
        for option, value in (
            (pycurl.OPENSOCKETFUNCTION, self._open_socket),
            # Methods of built-in types, so that receiving runs no Python code.
            (pycurl.WRITEFUNCTION, self.body.extend if _CURL_CAPS_BODIES else self._write_capped),
            (pycurl.HEADERFUNCTION, self.header_lines.append),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            # The scheduler follows redirects itself, because each target is checked like a new URL.
            (pycurl.FOLLOWLOCATION, 0),
            # A proxy would connect for us, to addresses that we could not check.
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            # HTTP/2 where a server offers it in TLS. curl shares such a connection between requests to one
            # host and port, never with another name; our limits count requests, not connections.
            # No PIPEWAIT: it would save the first few connections, but where a server has no HTTP/2, all
            # requests would wait for the first response.
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

    def prepare(self, task: FetchTask, timeout_s: float) -> None:
        """Set the handle up to request a task's `target`, with `timeout_s` seconds in total."""
        self.task = task
        self._exempt_port = task.host.exempt_port
        self._blocked = None
        # Rounded to hundredths of a second: most requests then have the same timeout as the last one.
        timeout_ms = max(1, int(timeout_s * 100) * 10)
        if timeout_ms != self._timeout_ms:
            self._timeout_ms = timeout_ms
            self.curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)
        if task.validators is not None or self.conditional:
            # Validators belong to the original URL, not to the target of a redirect.
            validators = None if task.redirects else task.validators
            lines = [] if validators is None else conditional_headers(validators)
            self.curl.setopt(pycurl.HTTPHEADER, _HEADERS + lines)
            self.conditional = bool(lines)
        self.curl.setopt(pycurl.URL, task.target)

    @property
    def status(self) -> int:
        """The HTTP status of the response; 0 if there was none."""
        return int(self.curl.getinfo(pycurl.RESPONSE_CODE))

    @property
    def location(self) -> str | None:
        """The URL that the response redirects to, made absolute by curl."""
        url: str | None = self.curl.getinfo(pycurl.REDIRECT_URL)
        return url

    def reset(self) -> None:
        """Clear the response and close our sockets."""
        # curl keeps a duplicate of each descriptor.
        while self._sockets:
            self._sockets.pop().close()
        self.body.clear()
        self.header_lines.clear()

    def failure(self, code: int, message: str) -> RequestFailure:
        """Why the request failed, from curl's error code and message."""
        # A socket means that some address of the host was allowed: then that one failed.
        if self._blocked is not None and not self._sockets:
            return RequestFailure(Reason.BLOCKED_ADDRESS, self._blocked)
        return failure_from_error(code, message, self.status, self._max_bytes)

    def _open_socket(self, purpose: int, address: SocketAddress) -> socket.socket | int:
        """Check an address and open its socket. curl calls this before it connects, for every address."""
        del purpose
        bad: int = pycurl.SOCKET_BAD
        if address.family not in (socket.AF_INET, socket.AF_INET6):
            self._blocked = "the address is neither IPv4 nor IPv6"
            return bad
        host, port = str(address.addr[0]), address.addr[1]
        blocked = block_reason(host)
        if blocked is not None and port != self._exempt_port:
            self._blocked = blocked
            return bad
        opened = socket.socket(address.family, address.socktype, address.protocol)
        self._sockets.append(opened)
        return opened

    def _write_capped(self, chunk: bytes) -> int | None:
        """Append to the body; 0 above the byte cap, at which curl stops. For curl before 8.4.0."""
        self.body += chunk
        return 0 if len(self.body) > self._max_bytes else None


class TransferPool:
    """The curl handles of one fetcher, and the connections that they share; arguments as for `HttpImages`.

    Attributes:
        active: the transfers in progress by their handles, the oldest first.
    """

    def __init__(self, policy: FetchPolicy, resolve: Sequence[str] = (), ca_file: Path | None = None) -> None:
        self.policy = policy
        self.active: dict[pycurl.Curl, Transfer] = {}
        self._resolve = resolve
        self._ca_file = ca_file
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, 2 * policy.concurrency)
        self._idle: list[Transfer] = []
        self._slow = 0
        self._slow_counted_at = -math.inf

    def has_capacity(self, now: float) -> bool:
        """Whether one more may start; slow transfers do not count, up to `concurrency` of them."""
        concurrency = self.policy.concurrency
        if not 0.0 <= now - self._slow_counted_at < _LONGEST_WAIT_S:
            self._slow_counted_at = now
            ages_s = (now - transfer.task.started_at for transfer in self.active.values())
            self._slow = sum(1 for _ in itertools.takewhile(lambda age_s: age_s > _SLOW_AFTER_S, ages_s))
        return len(self.active) < concurrency + min(self._slow, concurrency)

    def start(self, task: FetchTask, timeout_s: float) -> None:
        """Start a task's request, with `timeout_s` seconds in total."""
        idle = self._idle
        transfer = idle.pop() if idle else Transfer(self.policy, self._resolve, self._ca_file)
        transfer.prepare(task, timeout_s)
        self.active[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)

    def end(self, transfer: Transfer) -> None:
        """Remove a transfer, finished or not, and keep its handle for the next one."""
        del self.active[transfer.curl], transfer.task
        self._multi.remove_handle(transfer.curl)
        transfer.reset()
        self._idle.append(transfer)

    def end_all(self) -> None:
        """Remove all transfers."""
        for transfer in list(self.active.values()):
            self.end(transfer)

    def advance(self) -> tuple[list[pycurl.Curl], list[tuple[pycurl.Curl, int, str]]]:
        """Let all transfers advance once.

        Returns:
            The handles with a complete response; and those with an error: handle, error code, message.
        """
        self._multi.perform()
        _, done, failed = self._multi.info_read()
        return done, failed

    def wait(self, longest_s: float) -> None:
        """Wait until a transfer can advance, at most `longest_s` seconds."""
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
