"""When a run is due for records that arrive, and which records it takes."""

from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.domain.arrivals import Cause, Coalescer, WaitingRecords, Wake, selection_of_arrivals
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.selection import takes

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def coalescer() -> Coalescer:
    """One that waits for half a second, and wakes at most every 10 s."""
    return Coalescer(debounce_s=0.5, interval_s=10.0)


def test_nothing_is_due_before_something_happens() -> None:
    """A wake without a cause would be a run for nothing."""
    idle = coalescer()
    assert idle.idle
    assert not idle.is_due(1e9)
    with pytest.raises(Permanent, match="nothing has happened"):
        idle.wake(0.0)


def test_a_burst_makes_one_wake_that_counts_its_changes() -> None:
    """A run takes all of them."""
    burst = coalescer()
    for number in range(1_000):
        burst.add(Cause.CHANGED, now=number / 10_000)
    assert burst.wake(0.5) == Wake(Cause.CHANGED, 1_000)
    assert burst.idle


def test_a_wake_is_due_after_the_debounce_time_however_long_the_changes_go_on() -> None:
    """It counts from the first change, so that a steady stream of them cannot put it off for ever."""
    steady = coalescer()
    for number in range(6):
        steady.add(Cause.CHANGED, now=number / 10)
    assert [steady.is_due(now) for now in (0.4, 0.5)] == [False, True]


def test_two_wakes_are_an_interval_apart() -> None:
    """Whatever happens in between is one wake."""
    busy = coalescer()
    busy.add(Cause.CHANGED, 0.0)
    busy.wake(0.5)
    for number in range(3):
        busy.add(Cause.CHANGED, 1.0 + number)
    assert [busy.is_due(now) for now in (2.0, 10.4, 10.5)] == [False, False, True]
    assert busy.wake(10.5) == Wake(Cause.CHANGED, 3)


def test_a_change_long_after_the_last_wake_waits_only_for_the_debounce_time() -> None:
    """The interval has passed."""
    seldom = coalescer()
    seldom.add(Cause.CHANGED, 0.0)
    seldom.wake(0.5)
    seldom.add(Cause.CHANGED, 60.0)
    assert [seldom.is_due(now) for now in (60.4, 60.5)] == [False, True]


def test_the_first_cause_is_told_and_only_changes_are_counted() -> None:
    """People read why a run began."""
    mixed = coalescer()
    mixed.add(Cause.HISTORY_LOST, 0.0)
    mixed.add(Cause.CHANGED, 0.1)
    mixed.add(Cause.STARTED, 0.2)
    assert mixed.wake(1.0).document() == {"cause": "the history of changes was lost", "changes": 1}


def test_a_postponed_wake_is_due_later() -> None:
    """A run is in progress, so the next one waits for it."""
    postponed = coalescer()
    postponed.add(Cause.CHANGED, 0.0)
    postponed.postpone(3.0)
    assert [postponed.is_due(now) for now in (2.9, 3.0)] == [False, True]


@pytest.mark.parametrize(
    ("ahead", "taken"),
    [(timedelta(seconds=-1), True), (timedelta(minutes=4, seconds=59), True), (timedelta(minutes=5), False)],
)
def test_a_record_dated_up_to_five_minutes_ahead_is_taken(ahead: timedelta, taken: bool) -> None:
    """The clock of the website that wrote it may be ahead; a record dated tomorrow waits for tomorrow."""
    head = RecordHead(id=1, id_json="1", image_url="http://images/1.png", created_at=AT + ahead)
    assert takes(selection_of_arrivals(AT), head) is taken


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [
        (None, WaitingRecords(0, None), False),
        (None, WaitingRecords(3, None), True),
        (WaitingRecords(3, AT), WaitingRecords(3, AT), False),
        (WaitingRecords(3, AT), WaitingRecords(4, AT), True),
        (WaitingRecords(3, AT), WaitingRecords(2, AT + timedelta(seconds=1)), True),
        (WaitingRecords(3, AT), WaitingRecords(2, AT), False),
        (WaitingRecords(3, AT), WaitingRecords(0, None), False),
        (WaitingRecords(3, AT), WaitingRecords(3, AT - timedelta(seconds=1)), True),
        (WaitingRecords(0, None), WaitingRecords(0, AT), True),
    ],
)
def test_records_that_wait_all_the_time_are_no_news(before, after, more) -> None:
    """Those of a held run would else wake a run at each look."""
    assert after.has_news_since(before) is more
