"""One fetch over HTTP: which URL is requested when, what is retried, and what is the outcome."""

import heapq
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime

from mnist_ops.adapters.http.hosts import FetchTask, Host, Hosts
from mnist_ops.adapters.http.read_ahead import ReadAheadBuffer
from mnist_ops.adapters.http.responses import (
    TOO_LARGE_ERRORS,
    RequestFailure,
    failure_from_status,
    one_line,
    validators_of,
)
from mnist_ops.adapters.http.transfers import Transfer, TransferPool
from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.images import FetchedImage, FetchFailure, FetchOutcome, UnchangedImage
from mnist_ops.domain.reasons import Reason

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_MODIFIED = 304
# Outcomes yielded, or tasks started, before the network is polled again.
_BURST = 64
_COUNT_STALLED_EVERY_S = 0.1


class FetchScheduler:
    """Moves the tasks of one fetch through their states.

    A task is read, gets a slot at its host or waits there for one, is `_ready`, in transfer, perhaps
    `_in_backoff` before its next attempt, and complete. Its outcome is yielded once all tasks before it
    are complete.
    """

    def __init__(
        self,
        transfers: TransferPool,
        buffer: ReadAheadBuffer,
        *,
        rng: random.Random,
        utcnow: Callable[[], datetime],
    ) -> None:
        self._transfers = transfers
        self._policy = transfers.policy
        self._buffer = buffer
        self._rng = rng
        self._utcnow = utcnow
        self._hosts = Hosts(transfers.policy)
        self._ready: deque[FetchTask] = deque()
        # A heap by the time of the next attempt; the serial number decides between equal times.
        self._in_backoff: list[tuple[float, int, FetchTask]] = []
        self._serial = itertools.count()
        self._paused_s = 0.0
        self._stalled_counted_at = -math.inf

    def outcomes(self) -> Iterator[FetchOutcome]:
        """Yield the outcomes in order; transfers advance while the caller waits for the next one."""
        while True:
            more_to_start = self._start_transfers(self._now())
            if not self._buffer:
                return
            self._poll(wait=not more_to_start)
            paused_at = time.monotonic()
            yield from self._buffer.take(_BURST)
            # The caller's own work must not use up the timeouts of the transfers.
            self._paused_s += time.monotonic() - paused_at

    def _now(self) -> float:
        """The fetch's seconds: they do not advance while the caller works on an outcome."""
        return time.monotonic() - self._paused_s

    # Which task is next.

    def _start_transfers(self, now: float) -> bool:
        """Start transfers up to a limit; True if the burst ended first and more may be started."""
        at_memory_limit = self._buffer.at_memory_limit
        active, concurrency = self._transfers.active, self._policy.concurrency
        for _ in range(_BURST):
            if len(active) >= concurrency and not self._transfers.has_capacity(now):
                return False
            # At the memory limit only the oldest task may start, and those that are ready before it.
            if at_memory_limit and not self._buffer.oldest_is_queued:
                return False
            if self._ready:
                self._start(self._ready.popleft(), now)
            elif at_memory_limit or not self._read(now):
                return False
        return True

    def _read(self, now: float) -> bool:
        """Read one more URL; False if there is none, or at the count limit."""
        task = self._buffer.read()
        if task is None:
            self._count_stalled(now)
            return False
        self._assign_host(task, task.url)
        return True

    def _count_stalled(self, now: float) -> None:
        """At the count limit, exclude the tasks that wait for hosts which do not answer."""
        due = now - self._stalled_counted_at >= _COUNT_STALLED_EVERY_S
        if due and self._buffer.at_count_limit:
            self._stalled_counted_at = now
            self._buffer.stalled = sum(len(host.waiting) for host in self._hosts.stalled(now))

    def _assign_host(self, task: FetchTask, url: str) -> None:
        """Check a URL, of a record or of a redirect, and queue the task at the URL's host."""
        try:
            task.host, task.target = self._hosts.find(url)
        except ItemRejected as rejected:
            self._fail(task, RequestFailure(rejected.reason, rejected.detail))
            return
        if task.host.blocked is not None:
            self._fail(task, RequestFailure(Reason.BLOCKED_ADDRESS, task.host.blocked))
            return
        self._queue(task)

    def _queue(self, task: FetchTask) -> None:
        """Give a task a slot at its host, or let it wait there for one."""
        host = task.host
        task.queued = True
        if host.admits(task):
            host.slots_used += 1
            queue = self._ready
        else:
            queue = host.waiting
        # A task that returns was read before all tasks that are queued.
        (queue.appendleft if task.redirects or task.failures else queue.append)(task)

    def _release_slot(self, host: Host) -> None:
        """Free a slot and give free slots to waiting tasks."""
        host.slots_used -= 1
        while host.waiting and host.admits(host.waiting[0]):
            host.slots_used += 1
            self._ready.append(host.waiting.popleft())

    def _start(self, task: FetchTask, now: float) -> None:
        """Start the transfer of a task that holds a slot, or fail it."""
        rejection = task.host.rejection(now)
        if rejection is not None:
            self._fail_and_release(task, rejection)
            return
        left_s = self._policy.total_timeout_s
        if task.deadline:
            left_s = task.deadline - now
        else:
            task.deadline = now + left_s
        if left_s <= 0.0:
            detail = f"not done in {self._policy.total_timeout_s:g} s"
            self._fail_and_release(task, RequestFailure(Reason.TIMEOUT, detail))
            return
        task.queued = False
        task.started_at = now
        self._transfers.start(task, left_s)

    # What a request led to.

    def _poll(self, *, wait: bool) -> None:
        """Let all transfers advance once; if `wait` and nothing else is left to do, wait for the network."""
        done, failed = self._transfers.advance()
        now = self._now()
        active = self._transfers.active
        for curl in done:
            transfer = active[curl]
            self._on_response(transfer, now)
            self._transfers.end(transfer)
        for curl, code, message in failed:
            transfer = active[curl]
            self._on_error(transfer, code, message, now)
            self._transfers.end(transfer)
        resumed = self._resume(now)
        if wait and not (done or failed or resumed or self._buffer.oldest_is_complete):
            self._transfers.wait(self._in_backoff[0][0] - now if self._in_backoff else math.inf)

    def _resume(self, now: float) -> bool:
        """Queue the tasks whose backoff is over; False if there are none."""
        resumed = False
        while self._in_backoff and self._in_backoff[0][0] <= now:
            task = heapq.heappop(self._in_backoff)[2]
            task.host.change_backoff(-1)
            self._queue(task)
            resumed = True
        return resumed

    def _on_response(self, transfer: Transfer, now: float) -> None:
        """Decide what a complete response means: image, unchanged, redirect or failure."""
        task, status = transfer.task, transfer.status
        if 200 <= status < 300 and transfer.body:
            # After a redirect they belong to another URL.
            validators = None if task.redirects else validators_of(transfer.header_lines)
            self._succeed(task, FetchedImage(task.url, bytes(transfer.body), status, validators), now)
        elif status == _NOT_MODIFIED and transfer.conditional:
            self._succeed(task, UnchangedImage(task.url, status), now)
        elif status in _REDIRECTS and (location := transfer.location) is not None:
            task.host.record_success(task.started_at, now)
            self._redirect(task, location)
        else:
            failure = failure_from_status(status, transfer.header_lines, self._utcnow)
            self._retry_or_fail(task, failure, now)

    def _on_error(self, transfer: Transfer, code: int, message: str, now: float) -> None:
        """Decide what a request means that curl ended with an error."""
        # An error page above the byte cap still has the status that says what is wrong.
        if code in TOO_LARGE_ERRORS and transfer.status >= 400:
            self._on_response(transfer, now)
        else:
            self._retry_or_fail(transfer.task, transfer.failure(code, message), now)

    def _succeed(self, task: FetchTask, outcome: FetchOutcome, now: float) -> None:
        task.host.record_success(task.started_at, now)
        self._buffer.complete(task, outcome)
        self._release_slot(task.host)

    def _redirect(self, task: FetchTask, location: str) -> None:
        self._release_slot(task.host)
        task.redirects += 1
        was_secure = task.target[:6].lower() == "https:"
        if task.redirects > self._policy.max_redirects:
            detail = f"more than {self._policy.max_redirects} redirects"
            self._fail(task, RequestFailure(Reason.TOO_MANY_REDIRECTS, detail))
        elif was_secure and not location.lower().startswith("https:"):
            detail = f"https redirected to {one_line(location)}; only https may follow https"
            self._fail(task, RequestFailure(Reason.SCHEME_NOT_ALLOWED, detail))
        else:
            self._assign_host(task, location)

    def _retry_or_fail(self, task: FetchTask, failure: RequestFailure, now: float) -> None:
        """Put a task into backoff before its next attempt, or fail it."""
        host = task.host
        if failure.reason.transient:
            host.record_failure(failure, task.started_at, now)
        else:
            host.record_success(task.started_at, now)
        task.failures += 1
        delay_s = self._retry_delay_s(task, failure)
        attempts = self._policy.busy_attempts if failure.busy else self._policy.attempts
        retries_exhausted = task.failures >= attempts or now + delay_s >= task.deadline
        if not failure.retryable or retries_exhausted or host.circuit_open(now):
            self._fail_and_release(task, failure)
            return
        heapq.heappush(self._in_backoff, (now + delay_s, next(self._serial), task))
        host.change_backoff(1)
        self._release_slot(host)

    def _retry_delay_s(self, task: FetchTask, failure: RequestFailure) -> float:
        """Seconds until the next attempt; infinite if the server asks for more than `max_retry_after_s`."""
        retry_after_s = failure.retry_after_s or 0.0
        if retry_after_s > self._policy.max_retry_after_s:
            return math.inf
        backoff_s = self._policy.backoff_s * 2.0 ** (task.failures - 1)
        return max(retry_after_s, backoff_s * self._rng.uniform(0.5, 1.5))

    def _fail_and_release(self, task: FetchTask, failure: RequestFailure) -> None:
        """Fail a task that holds a slot."""
        self._fail(task, failure)
        self._release_slot(task.host)

    def _fail(self, task: FetchTask, failure: RequestFailure) -> None:
        detail = failure.detail if not task.redirects else f"after a redirect: {failure.detail}"
        outcome = FetchFailure(task.url, failure.reason, detail, failure.http_status, failure.retry_after_s)
        self._buffer.complete(task, outcome)
