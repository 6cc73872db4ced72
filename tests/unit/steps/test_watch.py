"""Watching the records: wakes, the place in the stream, and what happens when something breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.domain.arrivals import Cause, HistoryLost, NoChangeStream, WaitingRecords, Wake, WokenRuns
from mnist_ops.domain.errors import Transient
from mnist_ops.steps.watch import Clock, Pace, Watch

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAG = "classify_records"


class EndOfTestError(Exception):
    """Time is up."""


@dataclass
class Time:
    """A clock that only waiting moves."""

    seconds: float = 0.0
    end: float = float("inf")

    async def pause(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self.end:
            raise EndOfTestError

    def clock(self) -> Clock:
        return Clock(lambda: START + timedelta(seconds=self.seconds), lambda: self.seconds, self.pause)


@dataclass
class Collection:
    """Records of which changes are known by number, and what goes wrong with them.

    Attributes:
        time: passes while nobody changes anything.
        changes: when each change happens, in seconds.
        fails: by the number of the reading, the error that it ends with.
        refuses: the errors of the next openings of the stream.
        due: whether a run would take a record.
        counted: what the waiting records are at each look; the last one stays.
        unfinished_until: until when a run is in progress, in seconds.
        held: when a run ended whose predictions are held, and when somebody released it, in seconds.
        opened_at: the tokens that the stream was opened with.
    """

    time: Time
    changes: list[float] = field(default_factory=list)
    fails: dict[int, Exception] = field(default_factory=dict)
    refuses: list[Exception] = field(default_factory=list)
    due: bool = False
    counted: list[WaitingRecords] = field(default_factory=list)
    unfinished_until: float = 0.0
    held: tuple[float, float] | None = None
    opened_at: list[str | None] = field(default_factory=list)
    readings: int = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["Collection"]:
        yield self

    @asynccontextmanager
    async def opened(self, token: str | None) -> AsyncIterator["Stream"]:
        self.opened_at.append(token)
        if self.refuses:
            raise self.refuses.pop(0)
        yield Stream(self, int(token) if token else self._happened())

    async def waiting(self, at: datetime) -> WaitingRecords:
        return self.counted.pop(0) if len(self.counted) > 1 else self.counted[0]

    async def is_anything_due(self, at: datetime) -> bool:
        return self.due

    async def woken_runs(self, dag_id: str, since: datetime) -> WokenRuns:
        assert (dag_id, since) == (DAG, START + timedelta(seconds=self.time.seconds, hours=-1))
        ended, released = self.held or (0.0, 0.0)
        return WokenRuns(
            unfinished=self.time.seconds < self.unfinished_until,
            held_at=START + timedelta(seconds=ended) if ended <= self.time.seconds < released else None,
        )

    def _happened(self) -> int:
        return sum(moment <= self.time.seconds for moment in self.changes)


@dataclass
class Stream:
    """The changes from one of them on; its token is the number of those that were read."""

    of: Collection
    read: int

    @property
    def token(self) -> str | None:
        return str(self.read)

    async def next(self) -> bool:
        self.of.readings += 1
        if self.of.readings in self.of.fails:
            raise self.of.fails[self.of.readings]
        if self.read < self.of._happened():
            self.read += 1
            return True
        await self.of.time.pause(0.5)
        return False


@dataclass
class Tokens:
    """A place that is kept."""

    token: str | None = None

    async def load(self) -> str | None:
        return self.token

    async def save(self, token: str) -> None:
        self.token = token

    async def clear(self) -> None:
        self.token = None


Woken = list[tuple[float, Wake]]


@pytest.fixture
def time() -> Time:
    """A clock at 0 s."""
    return Time()


@pytest.fixture
def records(time) -> Collection:
    """No change yet."""
    return Collection(time)


@pytest.fixture
def watched(time, records) -> Callable[..., Woken]:
    """Watches for a number of seconds: the wakes, with their times."""

    def watch(seconds: float, tokens: Tokens | None = None, **pace: object) -> Woken:
        chosen = Pace(**({"debounce_s": 0.5, "interval_s": 10.0} | pace))
        watching = Watch(records.connect, tokens or Tokens(), chosen, time.clock())
        woken: Woken = []
        time.end = seconds

        async def collect() -> None:
            async for wake in watching.wakes():
                woken.append((time.seconds, wake))

        with pytest.raises(EndOfTestError):
            asyncio.run(collect())
        return woken

    return watch


def test_an_insert_wakes_within_a_second(records, watched) -> None:
    """The debounce time is at most that."""
    records.changes = [5.0]
    [(woken_at, wake)] = watched(30)
    assert woken_at - 5.0 <= 1.0
    assert wake == Wake(Cause.CHANGED, 1)


def test_a_burst_of_a_thousand_inserts_makes_two_wakes(records, watched) -> None:
    """The first comes at once; the second takes what came after it."""
    records.changes = [5.0 + number / 200 for number in range(1_000)]
    woken = watched(60)
    assert len(woken) == 2
    assert sum(wake.changes for _, wake in woken) == 1_000


def test_no_run_is_woken_while_another_is_unfinished(records, watched) -> None:
    """It would take the same records once more."""
    records.changes, records.unfinished_until = [1.0, 20.0, 25.0], 40.0
    [(woken_at, wake)] = watched(60, after_runs_of=DAG)
    assert 40.0 <= woken_at <= 42.0
    assert wake.changes == 3


@pytest.mark.parametrize(
    ("released", "woken_at"), [(float("inf"), 910.0), (100.0, 122.0)], ids=["not released", "released"]
)
def test_after_a_held_run_the_next_one_waits(records, watched, released, woken_at) -> None:
    """It would fetch and classify the same records again; 15 minutes, or until somebody releases them."""
    records.changes, records.held = [20.0 + 30 * number for number in range(50)], (10.0, released)
    (first, _), *_ = watched(1_000, after_runs_of=DAG)
    assert first == pytest.approx(woken_at, abs=30.0)


def test_records_that_wait_before_the_first_start_wake_a_run(records, watched) -> None:
    """There is no place in the stream yet to go on from."""
    records.due = True
    assert watched(30) == [(0.5, Wake(Cause.STARTED, 0))]


def test_records_that_wait_at_a_later_start_wake_a_run_once(records, watched) -> None:
    """Airflow queues no run for an event of a paused DAG, and the place is behind that event."""
    records.due, records.fails = True, {20: Transient("connection reset")}
    assert watched(60, Tokens("0")) == [(0.5, Wake(Cause.STARTED, 0))]
    assert records.opened_at == ["0", "0"]


def test_what_changed_while_nobody_watched_is_seen_afterwards(records, watched, time) -> None:
    """The stream goes on after the last change that was used."""
    records.changes, time.seconds = [1.0, 2.0, 3.0], 100.0
    [(_, wake)] = watched(130, Tokens("1"))
    assert records.opened_at == ["1"]
    assert wake == Wake(Cause.CHANGED, 2)


def test_the_place_is_kept_once_the_wake_was_used(records, watched) -> None:
    """A watcher that starts again does not see its changes again."""
    records.changes, tokens = [5.0], Tokens()
    watched(30, tokens)
    assert tokens.token == "1"


def test_a_wake_that_was_not_used_comes_again(records, time) -> None:
    """Whoever took it was killed before it came back for the next."""
    records.changes, tokens = [5.0], Tokens("0")

    async def take_one() -> None:
        watching = Watch(records.connect, tokens, Pace(0.5, 10.0), time.clock())
        async for _ in watching.wakes():
            break

    asyncio.run(take_one())
    assert tokens.token == "0"


def test_the_place_is_kept_as_soon_as_the_records_are_watched(watched) -> None:
    """Also what arrives before the first wake is seen after a restart."""
    tokens = Tokens()
    watched(10, tokens)
    assert tokens.token == "0"


def test_a_lost_history_wakes_one_run_and_the_stream_goes_on(records, watched, caplog) -> None:
    """The run takes what was missed; a token that is too old must not be tried for ever."""
    records.refuses, records.changes, tokens = [HistoryLost("too old")], [50.0], Tokens("7")
    (_, caught_up), (_, changed) = watched(80, tokens)
    assert records.opened_at == ["7", None]
    assert (caught_up, changed) == (Wake(Cause.HISTORY_LOST, 0), Wake(Cause.CHANGED, 1))
    assert tokens.token == "1"
    assert "too old; a run takes what was missed" in caplog.text


def test_a_lost_connection_is_made_again_from_the_same_place(records, watched, caplog) -> None:
    """What changed in between is seen."""
    records.changes, records.fails = [5.0, 12.0], {14: Transient("connection reset")}
    woken = watched(40, Tokens("0"))
    assert sum(wake.changes for _, wake in woken) == 2
    assert records.opened_at == ["0", "1"]
    assert "the watch of the records failed, next try in 1 s: connection reset" in caplog.text


def test_a_server_that_stays_away_is_asked_less_and_less_often(records, watched) -> None:
    """At most twice a minute in the end, so that an outage fills no log."""
    records.refuses = [Transient("connection refused")] * 5_000
    watched(31 + 1_500 * 30)
    assert len(records.opened_at) == 5 + 1_500


def test_without_a_change_stream_queries_take_its_place(records, watched, caplog) -> None:
    """A server that is no replica set has none."""
    records.refuses = [NoChangeStream("no change stream: only supported on replica sets")]
    quiet, more = WaitingRecords(2, START), WaitingRecords(3, START)
    records.counted = [quiet, quiet, quiet, more]
    woken = watched(100)
    assert [wake for _, wake in woken] == [Wake(Cause.QUERIED, 0)] * 2
    assert "are counted every 10 s" in caplog.text


def test_the_change_stream_is_tried_again_after_ten_minutes(records, watched) -> None:
    """The server may have become a replica set."""
    records.refuses, records.counted = [NoChangeStream("none")], [WaitingRecords(0, None)]
    watched(650)
    assert records.opened_at == [None, None]


def test_records_that_become_due_wake_a_run_where_no_schedule_does(records, watched) -> None:
    """A transient failure is tried again although nobody changes the record."""
    records.due = True
    woken = watched(100, Tokens("0"), due_every_s=60.0)
    assert [wake for _, wake in woken] == [Wake(Cause.STARTED, 0), Wake(Cause.DUE, 0)]


def test_without_a_change_stream_due_records_are_looked_for_too(records, watched) -> None:
    """Of as many that wait as before, the count and the newest tell nothing."""
    records.refuses, records.counted = [NoChangeStream("none")], [WaitingRecords(0, START)]
    records.due = True
    assert [wake for _, wake in watched(100, due_every_s=60.0)][1:] == [Wake(Cause.DUE, 0)]
