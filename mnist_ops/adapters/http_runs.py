"""One fetch over HTTP: which URL is asked for when, and in which order answers are handed over."""

import heapq
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from mnist_ops.adapters.http_answers import CUT_OFF, Trouble, one_line, trouble_of_status
from mnist_ops.adapters.http_hosts import Errand, Hosts
from mnist_ops.adapters.http_transfers import Transfer, Transfers
from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.image_urls import http_url
from mnist_ops.domain.images import FetchedImage, FetchFailure
from mnist_ops.domain.reasons import Reason

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_ANSWER = frozenset({Reason.CONNECTION_FAILED, Reason.TIMEOUT})
# Answers handed over before the network is looked at again.
_BURST = 64


class Run:
    """One fetch.

    An errand is read (`_window`), claims a place at its host or waits there, is `_ready`, `_active`,
    perhaps `_resting` before its next attempt, and decided; it is handed over once all before it are.
    A resting errand keeps its claim, so a host in trouble is asked less.

    Args:
        transfers: lends curl handles.
        urls: read lazily.
        rng: spreads the waits between attempts.
        utcnow: the wall clock.
    """

    def __init__(
        self, transfers: Transfers, urls: Iterator[str], *, rng: random.Random, utcnow: Callable[[], datetime]
    ) -> None:
        self._transfers = transfers
        self._policy = transfers.policy
        self._rng = rng
        self._utcnow = utcnow
        self._urls: Iterator[str] | None = urls
        self._hosts = Hosts(transfers.policy)
        self._window: deque[Errand] = deque()
        self._ready: deque[Errand] = deque()
        self._resting: list[tuple[float, int, Errand]] = []
        self._active: dict[Any, tuple[Transfer, Errand]] = {}
        self._turns = itertools.count()
        self._away_s = 0.0

    def outcomes(self) -> Iterator[FetchedImage | FetchFailure]:
        """Hand over the outcomes in order, working on them while the reader waits."""
        window = self._window
        while True:
            self._fill()
            if not window:
                return
            self._turn()
            left = time.monotonic()
            for _ in range(_BURST):
                if not window or (outcome := window[0].outcome) is None:
                    break
                window.popleft()
                yield outcome
                if isinstance(outcome, FetchedImage):
                    self._transfers.held.count -= len(outcome.payload)
            # The reader's own work must not use up the time of transfers under way.
            self._away_s += time.monotonic() - left

    def abandon(self) -> None:
        """Stop all transfers and give their handles back."""
        for transfer, _ in self._active.values():
            self._transfers.stop(transfer)
            self._transfers.give_back(transfer)
        self._active.clear()
        # What was fetched and never handed over.
        self._transfers.held.count = 0

    def _now(self) -> float:
        return time.monotonic() - self._away_s

    # Which errand next.

    def _fill(self) -> None:
        """Start transfers until a limit is met."""
        while len(self._active) < self._policy.concurrency:
            full = self._transfers.held.count >= self._policy.read_ahead_bytes
            # Above the limit only what the reader waits for may start, and what is queued before it.
            if full and not (self._window and self._window[0].queued):
                return
            if self._ready:
                self._start(self._ready.popleft())
            elif full or not self._read():
                return

    def _read(self) -> bool:
        """Read one more URL; False if there is none or enough are read."""
        if self._urls is None or len(self._window) >= self._policy.read_ahead_count:
            return False
        url = next(self._urls, None)
        if url is None:
            self._urls = None
            return False
        errand = Errand(url)
        self._window.append(errand)
        self._aim(errand, url)
        return True

    def _aim(self, errand: Errand, url: str) -> None:
        """Check a URL and queue the errand at its host."""
        try:
            errand.target = http_url(url)
        except ItemRejected as rejected:
            self._fail(errand, Trouble(rejected.reason, rejected.detail))
            return
        errand.host = host = self._hosts.of(errand.target)
        if host.forbidden is not None:
            self._fail(errand, Trouble(Reason.BLOCKED_ADDRESS, host.forbidden))
            return
        if host.claims < self._policy.per_host:
            host.claims += 1
            queue = self._ready
        else:
            queue = host.waiting
        errand.queued = True
        # A redirected errand was read before all that are queued.
        (queue.appendleft if errand.hops else queue.append)(errand)

    def _release(self, errand: Errand) -> None:
        """Give an errand's place at its host to the next one."""
        host = errand.host
        if host.waiting:
            self._ready.append(host.waiting.popleft())
        else:
            host.claims -= 1

    # What becomes of it.

    def _start(self, errand: Errand) -> None:
        now = self._now()
        if errand.host.dead(now):
            self._give_up(errand, errand.host.death_notice())
            return
        if errand.deadline is None:
            errand.deadline, left_s = now + self._policy.total_timeout_s, self._policy.total_timeout_s
        else:
            left_s = errand.deadline - now
        if left_s <= 0:
            self._give_up(errand, Trouble(Reason.TIMEOUT, f"not done in {self._policy.total_timeout_s:g} s"))
            return
        errand.queued = False
        transfer = self._transfers.borrow()
        transfer.aim(errand.target, left_s, exempt=errand.host.exempt)
        self._active[transfer.curl] = transfer, errand
        self._transfers.start(transfer)

    def _turn(self) -> None:
        """Let the network advance once; waits for it if there is nothing else to do."""
        before = len(self._active)
        for curl, code, message in self._transfers.ended():
            transfer, errand = self._active.pop(curl)
            self._transfers.stop(transfer)
            self._ended(errand, transfer, code, message)
            self._transfers.give_back(transfer)
        now = self._now()
        while self._resting and self._resting[0][0] <= now:
            errand = heapq.heappop(self._resting)[2]
            errand.queued = True
            self._ready.appendleft(errand)
        if len(self._active) == before and not self._ready and self._window[0].outcome is None:
            self._transfers.wait(self._resting[0][0] - now if self._resting else math.inf)

    def _ended(self, errand: Errand, transfer: Transfer, code: int, message: str) -> None:
        status = transfer.status
        # What is said at too great a length is nevertheless an error where the status says so.
        if code and (status < 400 or code not in CUT_OFF):
            self._troubled(errand, transfer.trouble(code, message))
            return
        errand.host.answered()
        if 200 <= status < 300 and transfer.size:
            errand.outcome = FetchedImage(errand.url, transfer.take(), status)
            self._release(errand)
        elif status in _REDIRECTS and (location := transfer.location) is not None:
            self._redirect(errand, location)
        elif 200 <= status < 300:
            self._give_up(errand, Trouble(Reason.NOT_AN_IMAGE, "the body is empty", status))
        else:
            self._troubled(errand, trouble_of_status(status, transfer.retry_after, self._utcnow))

    def _redirect(self, errand: Errand, location: str) -> None:
        self._release(errand)
        errand.hops += 1
        was_secure = errand.target.secure
        if errand.hops > self._policy.max_redirects:
            detail = f"more than {self._policy.max_redirects} redirects"
            self._fail(errand, Trouble(Reason.TOO_MANY_REDIRECTS, detail))
        elif was_secure and not location.lower().startswith("https:"):
            detail = f"https led to {one_line(location)}; only https may follow it"
            self._fail(errand, Trouble(Reason.SCHEME_NOT_ALLOWED, detail))
        else:
            self._aim(errand, location)

    def _troubled(self, errand: Errand, trouble: Trouble) -> None:
        """Plan another attempt, or give up."""
        now = self._now()
        if trouble.reason in _NO_ANSWER:
            errand.host.failed(now, self._policy)
        errand.attempts += 1
        wait_s = self._wait_s(errand, trouble)
        hopeless = errand.deadline is None or now + wait_s >= errand.deadline or errand.host.dead(now)
        if not trouble.again or errand.attempts >= self._policy.attempts or hopeless:
            self._give_up(errand, trouble)
            return
        heapq.heappush(self._resting, (now + wait_s, next(self._turns), errand))

    def _wait_s(self, errand: Errand, trouble: Trouble) -> float:
        """Seconds until the next attempt; infinite if the server wants more patience than we have."""
        asked_s = trouble.retry_after_s or 0.0
        if asked_s > self._policy.patience_s:
            return math.inf
        backoff_s = self._policy.backoff_s * 2.0 ** (errand.attempts - 1)
        return max(asked_s, backoff_s * self._rng.uniform(0.5, 1.5))

    def _give_up(self, errand: Errand, trouble: Trouble) -> None:
        """Decide an errand that holds a claim."""
        self._fail(errand, trouble)
        self._release(errand)

    def _fail(self, errand: Errand, trouble: Trouble) -> None:
        detail = trouble.detail if not errand.hops else f"after a redirect: {trouble.detail}"
        errand.outcome = FetchFailure(
            errand.url, trouble.reason, detail, trouble.http_status, trouble.retry_after_s
        )
