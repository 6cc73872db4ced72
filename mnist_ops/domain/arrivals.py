"""Records that arrive: which of them a run takes that they wake, when that run is due, and how they are seen.

A change in the collection is only a wake-up. What a run takes is found by a query, so a change that is seen
twice, or not at all, does no harm: the next run takes whatever waits.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.selection import Selection, whole_milliseconds

# A website's clock may be ahead. Without this, a record that is dated some seconds ahead would not be taken
# by the run that its insert wakes, and would wait for the next scheduled one.
CLOCK_SKEW = timedelta(minutes=5)
# Every run takes the records of a held run again, and fetches and classifies them all.
AFTER_A_HELD_RUN = timedelta(minutes=15)


class HistoryLost(Permanent):
    """The changes since a resume token are no longer known: go on from now, and look for what was missed."""


class NoChangeStream(Permanent):
    """The server has no change streams, or the user may not read them: ask by queries instead."""


def selection_of_arrivals(at: datetime) -> Selection:
    """Every waiting record, also one that is dated up to five minutes ahead.

    Args:
        at: the selection time (UTC).
    """
    moment = whole_milliseconds(at)
    return Selection(at=moment, until=moment + CLOCK_SKEW)


class Cause(StrEnum):
    """Why a run is woken."""

    CHANGED = "records changed"
    STARTED = "records waited at the start"
    HISTORY_LOST = "the history of changes was lost"
    QUERIED = "a query found more waiting records"
    DUE = "records became due"


@dataclass(frozen=True, slots=True)
class Wake:
    """A run is due.

    Attributes:
        cause: the first cause since the last wake.
        changes: the number of changes in records since then; 0 where they were not counted.
    """

    cause: Cause
    changes: int

    def document(self) -> Mapping[str, object]:
        """As the event of the asset holds it."""
        return {"cause": str(self.cause), "changes": self.changes}


@dataclass(slots=True)
class Coalescer:
    """Makes one wake of many causes. Times are those of one monotonic clock, in seconds.

    Attributes:
        debounce_s: from the first cause to its wake, so that a burst makes one wake.
        interval_s: the least time between two wakes.
    """

    debounce_s: float
    interval_s: float
    _cause: Cause | None = None
    _changes: int = 0
    _due_at: float = 0.0
    _next_at: float = float("-inf")

    @property
    def idle(self) -> bool:
        """Whether nothing has happened since the last wake."""
        return self._cause is None

    def add(self, cause: Cause, now: float) -> None:
        """Something happened."""
        if self._cause is None:
            self._cause, self._due_at = cause, max(now + self.debounce_s, self._next_at)
        self._changes += cause is Cause.CHANGED

    def is_due(self, now: float) -> bool:
        """Whether it is time for a wake."""
        return self._cause is not None and now >= self._due_at

    def postpone(self, until: float) -> None:
        """Let no wake be due before a time."""
        self._due_at = max(self._due_at, until)

    def wake(self, now: float) -> Wake:
        """Take the wake that is due, and begin to count again."""
        if self._cause is None:
            raise Permanent("nothing has happened since the last wake")
        wake = Wake(self._cause, self._changes)
        self._cause, self._changes, self._next_at = None, 0, now + self.interval_s
        return wake


@dataclass(frozen=True, slots=True)
class WaitingRecords:
    """The records that wait, as far as a cheap query tells.

    Attributes:
        count: of them, up to a limit.
        newest: the newest creation time; None if no record waits, or none has a creation time.
    """

    count: int
    newest: datetime | None

    def has_news_since(self, before: "WaitingRecords | None") -> bool:
        """Whether records may have come since an earlier look; records that wait all the time are not news.

        An older newest one is news too: the one before has its prediction, and this one may have come since.
        """
        if before is None or self.count > before.count:
            return self.count > 0
        return self.newest is not None and self.newest != before.newest


@dataclass(frozen=True, slots=True)
class WokenRuns:
    """The runs that arriving records have woken of late.

    Attributes:
        unfinished: whether one of them has no ledger yet.
        held_at: when the newest of them ended (UTC), if it is over its failure budget and nobody has released
            its predictions; else None.
    """

    unfinished: bool = False
    held_at: datetime | None = None


class ChangeStream(Protocol):
    """The changes of the records after which they may wait for a label."""

    @property
    def token(self) -> str | None:
        """Where to resume after the last change that was returned; None if the server did not say yet."""

    async def next(self) -> bool:
        """Wait for a change for at most the debounce time; whether there was one.

        Raises:
            HistoryLost: the stream has ended, or cannot be read on.
            Transient: the connection was lost.
        """


class RecordChanges(Protocol):
    """The records in an open connection, seen as they arrive."""

    def opened(self, token: str | None) -> AbstractAsyncContextManager[ChangeStream]:
        """The change stream from a token on, or from now on.

        Raises:
            HistoryLost: the token is too old, or is none of this collection's.
            NoChangeStream: there is none.
            Transient: the server does not answer.
        """

    async def waiting(self, at: datetime) -> WaitingRecords:
        """The records that wait at a time (UTC)."""

    async def is_anything_due(self, at: datetime) -> bool:
        """Whether a run at a time (UTC) would take a record."""

    async def woken_runs(self, dag_id: str, since: datetime) -> WokenRuns:
        """The runs of a DAG that arriving records have woken since a time (UTC)."""


class TokenStore(Protocol):
    """Keeps the resume token of one watcher where it outlives the process."""

    async def load(self) -> str | None:
        """The token; None if there is none."""

    async def save(self, token: str) -> None:
        """Replace the token."""

    async def clear(self) -> None:
        """Forget the token."""
