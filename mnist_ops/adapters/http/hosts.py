"""What one fetch knows of the hosts it asks: how much each may be asked, and whether it lives."""

import math
from collections import deque
from collections.abc import Iterator

from mnist_ops.adapters.http.read_ahead import Errand
from mnist_ops.adapters.http.responses import Trouble
from mnist_ops.domain.addresses import forbidden_because, literal_address
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.image_urls import HttpUrl, follows, http_url, origin_of
from mnist_ops.domain.reasons import Reason

_MOST_REMEMBERED = 4096
_FIRST_PLACES = 4.0
# Answers may take so much longer than the quickest one before they count as a sign of too much load.
_SLACK_S = 0.1
_LAGS_AFTER_S = 0.5


class Host:
    """One host and port.

    An errand that is ready or under way has a place. One that rests before its next attempt gives it up, but
    those that rest keep up to half of the places free: a host in trouble is asked less, and one with a single
    place not at all.

    Attributes:
        name: `host:port`.
        port: the port.
        exempt: whether the policy allows it a forbidden address.
        forbidden: why it is not asked at all, if its name spells a forbidden address.
        running: places taken.
        places: how many there are now for errands that are new to it.
        waiting: errands without a place, the oldest first.
    """

    __slots__ = (
        "_began",
        "_best_s",
        "_cut_at",
        "_dead_until",
        "_failing_since",
        "_failures",
        "_heard_at",
        "_limit",
        "_policy",
        "_resting",
        "_slow_start",
        "_trouble",
        "exempt",
        "forbidden",
        "name",
        "places",
        "port",
        "running",
        "waiting",
    )

    def __init__(self, url: HttpUrl, policy: FetchPolicy) -> None:
        self._policy = policy
        self.name = f"{url.host}:{url.port}"
        self.port = url.port
        self.exempt = self.name in policy.allowed_hosts
        literal = None if self.exempt else literal_address(url.host)
        # The open-socket callback would refuse it too; but a connection that was opened under another,
        # allowed spelling of the address must not serve this one.
        self.forbidden = None if literal is None else forbidden_because(literal)
        self.running = self._resting = 0
        self.waiting: deque[Errand] = deque()
        self._limit = min(_FIRST_PLACES, float(policy.per_host))
        self._slow_start = True
        self._best_s = math.inf
        self._cut_at = -math.inf
        self._failures = 0
        self._trouble: Trouble | None = None
        self._began = self._failing_since = self._dead_until = -math.inf
        self._heard_at = math.inf
        self._count_places()

    def refusal(self, now: float) -> Trouble | None:
        """Why its errands are not worth a request now; None where they are."""
        if now < self._dead_until and self._trouble is not None:
            return self._death_notice(self._trouble, now)
        if self._began < 0.0:
            self._began = self._heard_at = now
        budget_s = self._policy.host_budget_s
        if now - self._began > budget_s:
            detail = f"{self.name} had more images than it gave in {budget_s:g} s; a later run asks again"
            return Trouble(Reason.TIMEOUT, detail)
        return None

    def admits(self, errand: Errand) -> bool:
        """Whether there is a place for an errand; those that come back find what was kept free for them."""
        return self.running < (int(self._limit) if errand.attempts else self.places)

    def dead(self, now: float) -> bool:
        """Whether it has failed so long that its errands are not worth a request now."""
        return now < self._dead_until

    def lags(self, now: float) -> bool:
        """Whether it has been asked and not been heard of for a while."""
        return now - self._heard_at > _LAGS_AFTER_S

    def answered(self, started: float, now: float) -> None:
        """Note a request, begun at `started`, that got what can be expected of a healthy host."""
        self._failures = 0
        self._heard_at = now
        if self._limit >= self._policy.per_host or self.running < self.places:
            return
        took_s = now - started
        self._best_s = min(self._best_s, took_s)
        if took_s <= max(2.0 * self._best_s, self._best_s + _SLACK_S):
            # Doubles with each round trip until the first trouble, then one more with each.
            more = 1.0 if self._slow_start else 1.0 / self._limit
            self._limit = min(self._limit + more, float(self._policy.per_host))
            self._count_places()

    def failed(self, trouble: Trouble, started: float, now: float) -> None:
        """Note a request, begun at `started`, that did not."""
        if not self._failures:
            self._failing_since = started
        self._failures += 1
        self._trouble = trouble
        # What was under way at the last cut says nothing of the load since.
        if trouble.overload and started >= self._cut_at:
            self._limit = max(1.0, self._limit / 2.0)
            self._slow_start = False
            self._cut_at = now
            self._count_places()
        if self._failures < self._policy.dead_host_failures:
            return
        asked_s = trouble.retry_after_s or 0.0
        if asked_s > self._policy.patience_s:
            self._dead_until = now + asked_s
        elif now - self._failing_since >= self._policy.dead_host_after_s:
            self._dead_until = now + self._policy.dead_host_rest_s

    def rests(self, more: int) -> None:
        """Note that one errand more, or one less, rests before its next attempt."""
        self._resting += more
        self._count_places()

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return not (self.running or self._resting or self.waiting or self._failures)

    def _count_places(self) -> None:
        most = int(self._limit)
        self.places = most - min(self._resting, (most + 1) // 2)

    def _death_notice(self, trouble: Trouble, now: float) -> Trouble:
        detail = f"{self.name} failed {self._failures} times in a row and is left alone for a while"
        asked_s = None if trouble.retry_after_s is None else self._dead_until - now
        return Trouble(trouble.reason, f"{detail}; last: {trouble.detail}"[:200], None, asked_s)


class Hosts:
    """The hosts that one fetch has met.

    Args:
        policy: the limits.
    """

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._hosts: dict[tuple[str, int], Host] = {}
        self._by_origin: dict[str, Host] = {}

    def of(self, url: str) -> tuple[Host, str]:
        """The host that a URL leads to, always the same one while it is in use, and the URL as to be sent.

        Raises:
            ItemRejected: as `http_url`.
        """
        origin = origin_of(url)
        host = self._by_origin.get(origin)
        if host is not None and follows(origin, url):
            return host, url
        checked = http_url(url)
        key = (checked.host, checked.port)
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= _MOST_REMEMBERED:
                self._forget_idle()
            host = self._hosts[key] = Host(checked, self._policy)
        if len(self._by_origin) < _MOST_REMEMBERED:
            self._by_origin[checked.origin] = host
        return host, checked.text

    def lagging(self, now: float) -> Iterator[Host]:
        """The hosts with errands in wait that have not been heard of for a while."""
        return (host for host in self._hosts.values() if host.waiting and host.lags(now))

    def _forget_idle(self) -> None:
        self._hosts = {key: host for key, host in self._hosts.items() if not host.idle}
        self._by_origin.clear()
