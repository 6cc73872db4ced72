"""How long a step took, and on what."""

import logging
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.stages import StageReport, Stopwatch


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


seconds = st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000)
reports = st.builds(
    StageReport,
    st.just("fetch"),
    st.integers(0, 10**6),
    seconds,
    seconds,
    seconds,
    seconds,
    st.integers(0, 10**9),
    st.dictionaries(st.sampled_from(["GetObject", "PutObject"]), st.integers(1, 99)),
)


@given(reports)
def test_a_report_comes_back_as_it_was(report: StageReport) -> None:
    """Shards and manifests carry it as JSON."""
    assert StageReport.of(report.document()) == report


@given(reports, reports)
def test_two_parts_add_up(one: StageReport, other: StageReport) -> None:
    """Seconds become task-seconds; records, bytes and requests are sums."""
    both = one + other
    assert both.records == one.records + other.records
    assert both.seconds == one.seconds + other.seconds
    assert both.bytes == one.bytes + other.bytes
    assert both.s3_requests == Counter(one.s3_requests) + Counter(other.s3_requests)


def test_the_rate_of_no_time_is_zero() -> None:
    """An empty step divides by nothing."""
    assert StageReport("fetch", records=5).rate == 0.0
    assert StageReport("fetch", records=5, seconds=2.0).rate == 2.5


def test_reading_computing_and_writing_are_told_apart() -> None:
    """The rest of the time is in the total alone."""
    clock = Clock()
    watch = Stopwatch("classify", clock=clock)
    for phase, took in (
        (watch.reading, 1.0),
        (watch.computing, 2.0),
        (watch.writing, 4.0),
        (watch.reading, 8.0),
    ):
        with phase():
            clock.now += took
    clock.now += 16.0
    report = watch.report(10, 99)
    assert (report.read_s, report.compute_s, report.write_s, report.seconds) == (9.0, 2.0, 4.0, 31.0)
    assert (report.records, report.bytes) == (10, 99)


def test_time_is_counted_where_a_phase_fails_too() -> None:
    """A step that retries has its failures in its times."""
    clock = Clock()
    watch = Stopwatch("publish", clock=clock)

    def write() -> None:
        with watch.writing():
            clock.now += 3.0
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write()
    assert watch.report(0).write_s == 3.0


def test_waiting_for_a_source_is_reading_and_using_its_items_is_not() -> None:
    """The items themselves come through unchanged."""
    clock = Clock()

    def source() -> Iterator[int]:
        for item in range(3):
            clock.now += 1.0
            yield item

    watch = Stopwatch("snapshot", clock=clock)
    taken = []
    for item in watch.reads(source()):
        clock.now += 10.0
        taken.append(item)
    assert taken == [0, 1, 2]
    assert watch.report(3).read_s == 3.0


def test_only_the_requests_of_the_step_itself_are_counted() -> None:
    """A store counts up over its whole life."""
    requests = Counter({"GetObject": 5})
    watch = Stopwatch("fetch", requests)
    requests.update({"GetObject": 2, "PutObject": 1})
    assert watch.report(0).s3_requests == {"GetObject": 2, "PutObject": 1}


def test_a_step_ends_with_one_countable_line(caplog: pytest.LogCaptureFixture) -> None:
    """Records, seconds, rate, the three phases and bytes."""
    clock = Clock()
    with caplog.at_level(logging.INFO):
        watch = Stopwatch("fetch", clock=clock)
        clock.now += 2.0
        watch.report(30, 1234)
    assert [record.message for record in caplog.records] == [
        "fetch: 30 records in 2.00 s, 15/s (read 0.00 s, compute 0.00 s, write 0.00 s), 1234 bytes"
    ]
