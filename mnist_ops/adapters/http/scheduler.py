"""One fetch over HTTP: which URL is asked for when, and what becomes of it."""

import heapq
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime

from mnist_ops.adapters.http.hosts import Host, Hosts
from mnist_ops.adapters.http.read_ahead import Errand, Window
from mnist_ops.adapters.http.responses import (
    CUT_OFF,
    Trouble,
    one_line,
    trouble_of_status,
    validators_of,
)
from mnist_ops.adapters.http.transfers import Transfer, Transfers
from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.images import FetchedImage, FetchFailure, FetchOutcome, UnchangedImage
from mnist_ops.domain.reasons import Reason

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_MODIFIED = 304
# Answers handed over, or URLs read, before the network is looked at again.
_BURST = 64
_COUNT_LAGGING_EVERY_S = 0.1


class Run:
    """One fetch.

    An errand is read, gets a place at its host or waits there, is `_ready`, under way, perhaps `_resting`
    before its next attempt, and decided; it is handed over once all before it are.

    Args:
        transfers: does the requests.
        window: the URLs.
        rng: spreads the waits between attempts.
        utcnow: the wall clock.
    """

    def __init__(
        self, transfers: Transfers, window: Window, *, rng: random.Random, utcnow: Callable[[], datetime]
    ) -> None:
        self._transfers = transfers
        self._policy = transfers.policy
        self._window = window
        self._rng = rng
        self._utcnow = utcnow
        self._hosts = Hosts(transfers.policy)
        self._ready: deque[Errand] = deque()
        self._resting: list[tuple[float, int, Errand]] = []
        self._turns = itertools.count()
        self._away_s = 0.0
        self._lagging_counted_at = -math.inf

    def outcomes(self) -> Iterator[FetchOutcome]:
        """Hand over the outcomes in order, working on them while the reader waits."""
        while True:
            hurried = self._fill(self._now())
            if not self._window:
                return
            self._turn(hurried=hurried)
            left = time.monotonic()
            yield from self._window.decided(_BURST)
            # The reader's own work must not use up the time of transfers under way.
            self._away_s += time.monotonic() - left

    def _now(self) -> float:
        return time.monotonic() - self._away_s

    # Which errand next.

    def _fill(self, now: float) -> bool:
        """Start transfers until a limit is met; True if it ends only to let the network advance first."""
        full = self._window.full
        active, most = self._transfers.active, self._policy.concurrency
        for _ in range(_BURST):
            if len(active) >= most and not self._transfers.spare(now):
                return False
            # Of a full window only what the reader waits for may start, and what is queued before it.
            if full and not self._window.head_queued:
                return False
            if self._ready:
                self._start(self._ready.popleft(), now)
            elif full or not self._read(now):
                return False
        return True

    def _read(self, now: float) -> bool:
        """Read one more URL; False if there is none or enough are read."""
        errand = self._window.read()
        if errand is None:
            self._count_lagging(now)
            return False
        self._aim(errand, errand.url)
        return True

    def _count_lagging(self, now: float) -> None:
        """Let the window pass what waits for hosts that do not answer."""
        if now - self._lagging_counted_at >= _COUNT_LAGGING_EVERY_S and self._window.crowded:
            self._lagging_counted_at = now
            self._window.excused = sum(len(host.waiting) for host in self._hosts.lagging(now))

    def _aim(self, errand: Errand, url: str) -> None:
        """Check a URL and queue the errand at its host."""
        try:
            errand.host, errand.target = self._hosts.of(url)
        except ItemRejected as rejected:
            self._fail(errand, Trouble(rejected.reason, rejected.detail))
            return
        if errand.host.forbidden is not None:
            self._fail(errand, Trouble(Reason.BLOCKED_ADDRESS, errand.host.forbidden))
            return
        self._queue(errand)

    def _queue(self, errand: Errand) -> None:
        """Give an errand a place at its host, or let it wait there."""
        host = errand.host
        errand.queued = True
        if host.admits(errand):
            host.running += 1
            queue = self._ready
        else:
            queue = host.waiting
        # One that comes back was read before all that are queued.
        (queue.appendleft if errand.hops or errand.attempts else queue.append)(errand)

    def _release(self, host: Host) -> None:
        """Give a place back, for those that wait."""
        host.running -= 1
        while host.waiting and host.admits(host.waiting[0]):
            host.running += 1
            self._ready.append(host.waiting.popleft())

    # What becomes of it.

    def _start(self, errand: Errand, now: float) -> None:
        trouble = errand.host.refusal(now)
        if trouble is not None:
            self._give_up(errand, trouble)
            return
        left_s = self._policy.total_timeout_s
        if errand.deadline:
            left_s = errand.deadline - now
        else:
            errand.deadline = now + left_s
        if left_s <= 0.0:
            self._give_up(errand, Trouble(Reason.TIMEOUT, f"not done in {self._policy.total_timeout_s:g} s"))
            return
        errand.queued = False
        errand.started = now
        self._transfers.start(errand, left_s)

    def _turn(self, *, hurried: bool) -> None:
        """Let the network advance once; waits for it if there is nothing else to do."""
        done, failed = self._transfers.advance()
        now = self._now()
        active = self._transfers.active
        for curl in done:
            transfer = active[curl]
            self._answered(transfer, now)
            self._transfers.end(transfer)
        for curl, code, message in failed:
            transfer = active[curl]
            self._broken(transfer, code, message, now)
            self._transfers.end(transfer)
        woken = self._wake(now)
        if not (done or failed or woken or hurried or self._window.head_decided):
            self._transfers.wait(self._resting[0][0] - now if self._resting else math.inf)

    def _wake(self, now: float) -> bool:
        """Queue what has rested; False if there is nothing."""
        woken = False
        while self._resting and self._resting[0][0] <= now:
            errand = heapq.heappop(self._resting)[2]
            errand.host.rests(-1)
            self._queue(errand)
            woken = True
        return woken

    def _answered(self, transfer: Transfer, now: float) -> None:
        """Judge a complete answer."""
        errand, status = transfer.errand, transfer.status
        if 200 <= status < 300 and transfer.body:
            # Of a redirected one they would be another URL's.
            validators = None if errand.hops else validators_of(transfer.head)
            self._succeed(errand, FetchedImage(errand.url, bytes(transfer.body), status, validators), now)
        elif status == _NOT_MODIFIED and transfer.conditional:
            self._succeed(errand, UnchangedImage(errand.url, status), now)
        elif status in _REDIRECTS and (location := transfer.location) is not None:
            errand.host.answered(errand.started, now)
            self._redirect(errand, location)
        else:
            self._troubled(errand, trouble_of_status(status, transfer.head, self._utcnow), now)

    def _broken(self, transfer: Transfer, code: int, message: str, now: float) -> None:
        """Judge a request that curl ended with an error."""
        # What is said at too great a length is nevertheless an error where the status says so.
        if code in CUT_OFF and transfer.status >= 400:
            self._answered(transfer, now)
        else:
            self._troubled(transfer.errand, transfer.trouble(code, message), now)

    def _succeed(self, errand: Errand, outcome: FetchOutcome, now: float) -> None:
        errand.host.answered(errand.started, now)
        self._window.decide(errand, outcome)
        self._release(errand.host)

    def _redirect(self, errand: Errand, location: str) -> None:
        self._release(errand.host)
        errand.hops += 1
        was_secure = errand.target[:6].lower() == "https:"
        if errand.hops > self._policy.max_redirects:
            detail = f"more than {self._policy.max_redirects} redirects"
            self._fail(errand, Trouble(Reason.TOO_MANY_REDIRECTS, detail))
        elif was_secure and not location.lower().startswith("https:"):
            detail = f"https led to {one_line(location)}; only https may follow it"
            self._fail(errand, Trouble(Reason.SCHEME_NOT_ALLOWED, detail))
        else:
            self._aim(errand, location)

    def _troubled(self, errand: Errand, trouble: Trouble, now: float) -> None:
        """Plan another attempt, or give up."""
        host = errand.host
        if trouble.reason.transient:
            host.failed(trouble, errand.started, now)
        else:
            host.answered(errand.started, now)
        errand.attempts += 1
        wait_s = self._wait_s(errand, trouble)
        most = self._policy.busy_attempts if trouble.busy else self._policy.attempts
        hopeless = now + wait_s >= errand.deadline or host.dead(now)
        if not trouble.again or errand.attempts >= most or hopeless:
            self._give_up(errand, trouble)
            return
        heapq.heappush(self._resting, (now + wait_s, next(self._turns), errand))
        host.rests(1)
        self._release(host)

    def _wait_s(self, errand: Errand, trouble: Trouble) -> float:
        """Seconds until the next attempt; infinite if the server wants more patience than we have."""
        asked_s = trouble.retry_after_s or 0.0
        if asked_s > self._policy.patience_s:
            return math.inf
        backoff_s = self._policy.backoff_s * 2.0 ** (errand.attempts - 1)
        return max(asked_s, backoff_s * self._rng.uniform(0.5, 1.5))

    def _give_up(self, errand: Errand, trouble: Trouble) -> None:
        """Decide an errand that holds a place."""
        self._fail(errand, trouble)
        self._release(errand.host)

    def _fail(self, errand: Errand, trouble: Trouble) -> None:
        detail = trouble.detail if not errand.hops else f"after a redirect: {trouble.detail}"
        failure = FetchFailure(errand.url, trouble.reason, detail, trouble.http_status, trouble.retry_after_s)
        self._window.decide(errand, failure)
