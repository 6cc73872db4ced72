"""The hosts that one fetch sends requests to, and the tasks that wait for them."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from mnist_ops.adapters.http.circuit_breaker import CircuitBreaker
from mnist_ops.adapters.http.concurrency_limit import ConcurrencyLimit
from mnist_ops.adapters.http.responses import RequestFailure
from mnist_ops.domain.addresses import block_reason, literal_address
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.image_urls import HttpUrl, is_valid_after_origin, origin_of, parse_http_url
from mnist_ops.domain.images import FetchOutcome, Validators
from mnist_ops.domain.reasons import Reason

_MAX_HOSTS = 4096
_STALLED_AFTER_S = 0.5


@dataclass(slots=True, eq=False)
class FetchTask:
    """One URL, from the moment it is read until its outcome is taken.

    Times are in the fetch's seconds, which do not advance while the caller works on an outcome.

    Attributes:
        url: the URL as the caller gave it.
        validators: those that an earlier response to this URL had.
        target: the URL to request next, in ASCII: the URL itself, or where it was redirected to.
        host: the host of `target`. Both are unset until the URL has been checked.
        failures: requests that failed.
        redirects: redirects followed.
        deadline: when the task fails at the latest; 0 before its first request.
        started_at: when its current request began.
        queued: whether it waits for a slot at its host, or for a free transfer.
        outcome: None until the task is complete.
    """

    url: str
    validators: Validators | None
    target: str = field(init=False)
    host: "Host" = field(init=False)
    failures: int = 0
    redirects: int = 0
    deadline: float = 0.0
    started_at: float = 0.0
    queued: bool = False
    outcome: FetchOutcome | None = None


class Host:
    """One host and port: its slots, its circuit breaker and its time budget.

    A task that is ready or in transfer holds a slot. A task in backoff gives its slot back, but new tasks get
    one slot less for each task in backoff, up to half of the slots, rounded up. So a failing host gets fewer
    requests, and a host with a single slot gets none until its task returns.

    Attributes:
        name: `host:port`.
        exempt_port: its port, if the policy allows this host to have a blocked address.
        blocked: why no request is sent to it, if its name is a blocked address in any spelling.
        slots_used: slots that tasks hold.
        slots: slots for new tasks, now.
        waiting: tasks without a slot, the oldest first.
    """

    def __init__(self, url: HttpUrl, policy: FetchPolicy) -> None:
        self._policy = policy
        self.name = f"{url.host}:{url.port}"
        self.exempt_port = url.port if self.name in policy.allowed_hosts else None
        literal = literal_address(url.host) if self.exempt_port is None else None
        # The open-socket callback would block it too, but curl could reuse a connection that was opened for
        # another, exempt spelling of the same address.
        self.blocked = None if literal is None else block_reason(literal)
        self.slots_used = self._in_backoff = 0
        self.waiting: deque[FetchTask] = deque()
        self._limit = ConcurrencyLimit(policy.per_host)
        self._breaker = CircuitBreaker(policy)
        self._first_request_at = -math.inf
        self._last_success_at = math.inf
        self._count_slots()

    def rejection(self, now: float) -> RequestFailure | None:
        """Why no request is sent to it now: open circuit, or time budget used up; None if one may be sent."""
        if now < self._breaker.open_until:
            return self._breaker.rejection(self.name, now)
        if self._first_request_at < 0.0:
            self._first_request_at = self._last_success_at = now
        budget_s = self._policy.host_budget_s
        if now - self._first_request_at > budget_s:
            detail = f"{self.name} did not return all its images in {budget_s:g} s; a later run tries again"
            return RequestFailure(Reason.TIMEOUT, detail)
        return None

    def admits(self, task: FetchTask) -> bool:
        """Whether there is a slot for a task; one that returns from backoff may use every slot."""
        return self.slots_used < (int(self._limit.value) if task.failures else self.slots)

    def circuit_open(self, now: float) -> bool:
        """Whether its URLs fail without a request."""
        return now < self._breaker.open_until

    def stalled(self, now: float) -> bool:
        """Whether it got requests and has not answered any for half a second."""
        return now - self._last_success_at > _STALLED_AFTER_S

    def record_success(self, started_at: float, now: float) -> None:
        """Count a request, begun at `started_at`, that got the response of a healthy host, also a 404."""
        self._breaker.failures = 0
        self._last_success_at = now
        # While slots are free, a success says nothing about a higher limit.
        if self._limit.value >= self._policy.per_host or self.slots_used < self.slots:
            return
        self._limit.record_success(now - started_at)
        self._count_slots()

    def record_failure(self, failure: RequestFailure, started_at: float, now: float) -> None:
        """Count a request, begun at `started_at`, with a transient failure."""
        self._breaker.record_failure(failure, started_at, now)
        if failure.overload:
            self._limit.record_overload(started_at, now)
            self._count_slots()

    def change_backoff(self, change: int) -> None:
        """Count one task more (1) or less (-1) in backoff."""
        self._in_backoff += change
        self._count_slots()

    @property
    def idle(self) -> bool:
        """Whether it has no tasks and no state worth keeping."""
        return not (self.slots_used or self._in_backoff or self.waiting or self._breaker.failures)

    def _count_slots(self) -> None:
        limit = int(self._limit.value)
        self.slots = limit - min(self._in_backoff, (limit + 1) // 2)


class Hosts:
    """The hosts of one fetch, by their URLs."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._hosts: dict[tuple[str, int], Host] = {}
        self._by_origin: dict[str, Host] = {}

    def find(self, url: str) -> tuple[Host, str]:
        """The host of a URL, the same object as long as it is in use, and the URL to request, in ASCII.

        Raises:
            ItemRejected: as `parse_http_url`.
        """
        origin = origin_of(url)
        host = self._by_origin.get(origin)
        if host is not None and is_valid_after_origin(url, origin):
            return host, url
        parsed = parse_http_url(url)
        key = (parsed.host, parsed.port)
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= _MAX_HOSTS:
                self._forget_idle()
            host = self._hosts[key] = Host(parsed, self._policy)
        if len(self._by_origin) < _MAX_HOSTS:
            self._by_origin[parsed.origin] = host
        return host, parsed.text

    def stalled(self, now: float) -> Iterator[Host]:
        """The hosts that have tasks waiting and have not answered for half a second."""
        return (host for host in self._hosts.values() if host.waiting and host.stalled(now))

    def _forget_idle(self) -> None:
        self._hosts = {key: host for key, host in self._hosts.items() if not host.idle}
        self._by_origin.clear()
