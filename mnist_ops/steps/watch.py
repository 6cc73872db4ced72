"""Watch the records: say when a run is due because some have arrived, whatever happens to the connection."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mnist_ops.domain.arrivals import (
    AFTER_A_HELD_RUN,
    Cause,
    ChangeStream,
    Coalescer,
    HistoryLost,
    NoChangeStream,
    RecordChanges,
    TokenStore,
    WaitingRecords,
    Wake,
)
from mnist_ops.domain.errors import MnistOpsError

_log = logging.getLogger(__name__)

_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# A server without change streams may get them.
_STREAM_TRIED_EVERY_S = 600.0
_RUN_ASKED_FOR_EVERY_S = 1.0
# A run without a ledger for longer than this was probably given up.
_LONGEST_RUN = timedelta(hours=1)
# A release by a person is seen this soon.
_HOLD_ASKED_FOR_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often runs are woken.

    Attributes:
        debounce_s: from the first change to the wake, in seconds.
        interval_s: the least time between two wakes, in seconds.
        after_runs_of: a DAG; while a run of it that was woken is unfinished, no other is woken, and for 15
            minutes after one whose predictions are held. None for no DAG.
        due_every_s: how often to look for records that became due, such as those to be tried again; None
            where a schedule does so.
    """

    debounce_s: float
    interval_s: float
    after_runs_of: str | None = None
    due_every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, as an argument.

    Attributes:
        now: the wall clock (UTC).
        monotonic: seconds that never go back.
        pause: lets other coroutines run for a number of seconds.
    """

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    pause: Callable[[float], Awaitable[None]]


@dataclass
class Watch:
    """Watches the records for as long as its `wakes` are iterated over.

    Attributes:
        connect: opens a connection to the records.
        tokens: keeps the place in the change stream.
        pace: how often runs are woken.
        clock: the time.
    """

    connect: Callable[[], AbstractAsyncContextManager[RecordChanges]]
    tokens: TokenStore
    pace: Pace
    clock: Clock
    _coalescer: Coalescer = field(init=False)
    _token: str | None = field(default=None, init=False)
    _started: bool = field(default=False, init=False)
    _failures: int = field(default=0, init=False)
    _seen: WaitingRecords | None = field(default=None, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)
    _saved: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._coalescer = Coalescer(self.pace.debounce_s, self.pace.interval_s)

    async def wakes(self) -> AsyncGenerator[Wake, None]:
        """A wake whenever a run is due; never ends by itself.

        The place in the stream is saved after the caller has come back for the next wake. So a wake that the
        caller did not live to use comes again. Close it (`aclosing`), and its connection is closed too.
        """
        while True:
            try:
                async with self.connect() as records, aclosing(self._wakes_of(records)) as wakes:
                    async for wake in wakes:
                        yield wake
            except MnistOpsError as error:
                pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
                self._failures += 1
                _log.warning("the watch of the records failed, next try in %.0f s: %s", pause_s, error)
                await self.clock.pause(pause_s)

    async def _wakes_of(self, records: RecordChanges) -> AsyncGenerator[Wake, None]:
        self._token = self._token or await self.tokens.load()
        try:
            async with (
                records.opened(self._token) as stream,
                aclosing(self._streamed(records, stream)) as wakes,
            ):
                async for wake in wakes:
                    yield wake
        except HistoryLost as error:
            self._token = self._saved = None
            await self.tokens.clear()
            self._coalescer.add(Cause.HISTORY_LOST, self.clock.monotonic())
            raise HistoryLost(f"{error}; a run takes what was missed") from error
        except NoChangeStream as error:
            _log.warning("%s; the waiting records are counted every %.0f s", error, self.pace.interval_s)
        async with aclosing(self._polled(records)) as wakes:
            async for wake in wakes:
                yield wake

    async def _streamed(self, records: RecordChanges, stream: ChangeStream) -> AsyncGenerator[Wake, None]:
        _log.info("the records are watched, %s", "from now on" if self._token is None else "resumed")
        # With a place to go on from, too: a wake whose run was never queued is not in the stream any more.
        if self._token is None or not self._started:
            await self._look_for_due(records, Cause.STARTED)
        self._started = True
        while True:
            if await stream.next():
                self._coalescer.add(Cause.CHANGED, self.clock.monotonic())
            self._failures, self._token = 0, stream.token or self._token
            if self._is_time_to_look():
                await self._look_for_due(records, Cause.DUE)
            wake = await self._due_wake(records)
            if wake is not None:
                yield wake
            if self._coalescer.idle:
                await self._save_place()

    async def _polled(self, records: RecordChanges) -> AsyncGenerator[Wake, None]:
        """Wakes by queries, for a while."""
        end = self.clock.monotonic() + _STREAM_TRIED_EVERY_S
        while self.clock.monotonic() < end:
            waiting = await records.waiting(self.clock.now())
            if waiting.has_news_since(self._seen):
                self._coalescer.add(Cause.QUERIED, self.clock.monotonic())
            self._seen, self._failures = waiting, 0
            if self._is_time_to_look():
                await self._look_for_due(records, Cause.DUE)
            await self.clock.pause(self.pace.debounce_s)
            wake = await self._due_wake(records)
            if wake is not None:
                yield wake
            await self.clock.pause(max(self.pace.interval_s, 1.0))

    def _is_time_to_look(self) -> bool:
        every = self.pace.due_every_s
        if every is None or not self._coalescer.idle:
            return False
        return self.clock.monotonic() - self._looked_at >= every

    async def _look_for_due(self, records: RecordChanges, cause: Cause) -> None:
        self._looked_at = self.clock.monotonic()
        if await records.is_anything_due(self.clock.now()):
            self._coalescer.add(cause, self._looked_at)

    async def _due_wake(self, records: RecordChanges) -> Wake | None:
        now = self.clock.monotonic()
        if not self._coalescer.is_due(now):
            return None
        wait_s = await self._wait_for_runs_s(records)
        if wait_s:
            self._coalescer.postpone(now + wait_s)
            return None
        return self._coalescer.wake(now)

    async def _wait_for_runs_s(self, records: RecordChanges) -> float:
        """After how many seconds to ask again whether a run may be woken; 0 if one may."""
        if self.pace.after_runs_of is None:
            return 0.0
        now = self.clock.now()
        woken = await records.woken_runs(self.pace.after_runs_of, now - _LONGEST_RUN)
        if woken.unfinished:
            return _RUN_ASKED_FOR_EVERY_S
        if woken.held_at is None:
            return 0.0
        left_s = (woken.held_at + AFTER_A_HELD_RUN - now).total_seconds()
        return min(max(left_s, 0.0), _HOLD_ASKED_FOR_EVERY_S)

    async def _save_place(self) -> None:
        if self._token is not None and self._token != self._saved:
            await self.tokens.save(self._token)
            self._saved = self._token
