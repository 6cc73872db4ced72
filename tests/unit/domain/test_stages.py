"""How long a step took, and on what."""

import logging
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.stages import StageReport, Stopwatch, reports_to


class Clock:
    """A clock that a test moves."""

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
    seconds,
    seconds,
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
PHASES = ("reading", "computing", "writing")


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
    assert (both.cpu_s, both.gpu_s) == (one.cpu_s + other.cpu_s, one.gpu_s + other.gpu_s)
    assert both.s3_sent == one.s3_sent + other.s3_sent
    assert both.s3_received == one.s3_received + other.s3_received


def test_the_upload_of_a_result_is_added_to_what_its_maker_counted() -> None:
    """A shard cannot hold the count of its own upload."""
    report = StageReport("fetch", s3_requests={"GetObject": 2, "PutObject": 1}, s3_sent=10)
    whole = report.with_upload({"PutObject": 1}, 90)
    assert (whole.s3_requests, whole.s3_sent) == ({"GetObject": 2, "PutObject": 2}, 100)


def test_the_rate_of_no_time_is_zero() -> None:
    """An empty step divides by nothing."""
    assert StageReport("fetch", records=5).rate == 0.0
    assert StageReport("fetch", records=5, seconds=2.0).rate == 2.5


def test_reading_computing_and_writing_are_told_apart() -> None:
    """The rest of the time is only in the total."""
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
    assert report.other_s == 16.0
    assert (report.records, report.bytes) == (10, 99)


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.sampled_from(PHASES), seconds)))
def test_the_phases_of_a_step_add_up_to_its_wall_time(steps: list[tuple[str, str, float]]) -> None:
    """Also if one phase is within another: then only the inner one counts."""
    clock = Clock()
    watch = Stopwatch("fetch", clock=clock)
    for outer, inner, took in steps:
        clock.now += took
        with getattr(watch, outer)():
            clock.now += took
            with getattr(watch, inner)():
                clock.now += took
    report = watch.report(0)
    phases = report.read_s + report.compute_s + report.write_s
    assert phases + report.other_s == pytest.approx(report.seconds)
    assert phases == pytest.approx(2 * sum(took for _, _, took in steps))


def test_cpu_time_is_that_of_all_threads() -> None:
    """A step's CPU time includes its other threads."""
    cpu = Clock()
    watch = Stopwatch("classify", cpu_clock=cpu)
    cpu.now += 7.0
    assert watch.report(1).cpu_s == 7.0


def test_a_gpu_is_held_from_when_it_is_taken() -> None:
    """What came before, such as fetching the bundle, is not its time."""
    clock = Clock()
    watch = Stopwatch("classify", clock=clock)
    clock.now += 4.0
    watch.gpu_taken()
    clock.now += 2.5
    assert watch.report(1).gpu_s == 2.5


def test_cpu_time_is_measured_where_nobody_gives_a_clock() -> None:
    """Computing costs CPU time, sleeping none."""
    watch = Stopwatch("classify")
    deadline = time.process_time() + 0.05
    while time.process_time() < deadline:
        pass
    assert 0.04 < watch.report(1).cpu_s < 5.0


def test_a_steps_bottleneck_is_named_in_words() -> None:
    """The closing line says where to look."""
    assert StageReport("fetch", seconds=9, read_s=5, compute_s=3).bottleneck == (
        "reading from the image servers"
    )
    assert StageReport("publish", seconds=9, read_s=1, compute_s=1).bottleneck == "everything else"
    assert StageReport("publish", seconds=9, write_s=8).bottleneck == "writing to MongoDB"
    assert StageReport("a step of somebody's own", seconds=9, write_s=8).bottleneck == "writing"


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


def test_only_the_bytes_of_the_step_itself_are_counted() -> None:
    """By direction."""
    moved = Counter({"sent": 5, "received": 7})
    watch = Stopwatch("fetch", {}, moved)
    moved.update({"sent": 10, "received": 20})
    report = watch.report(0)
    assert (report.s3_sent, report.s3_received) == (10, 20)


def test_a_step_ends_with_countable_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Records, seconds, rate and the phases; then what to look at, CPU time and megabytes."""
    clock = Clock()
    with caplog.at_level(logging.INFO):
        watch = Stopwatch("fetch", clock=clock, cpu_clock=clock)
        with watch.reading():
            clock.now += 1.5
        clock.now += 0.5
        watch.report(30, 1_234_000)
        classifying = Stopwatch("classify", clock=clock, cpu_clock=clock)
        classifying.gpu_taken()
        with classifying.reading():
            clock.now += 1.0
        classifying.report(0)
    assert [record.message for record in caplog.records] == [
        "fetch: 30 records in 2.00 s, 15/s: read 1.50, compute 0.00, write 0.00, other 0.50 s",
        "bottleneck: reading from the image servers; cpu 2.00 s, 1.23 MB",
        "classify: 0 records in 1.00 s, 0/s: read 1.00, compute 0.00, write 0.00, other 0.00 s",
        "bottleneck: reading the image shard and the bundle from S3; cpu 1.00 s, gpu 1.00 s, 0.00 MB",
    ]


def test_the_closing_lines_of_a_long_step_are_short(caplog: pytest.LogCaptureFixture) -> None:
    """An hour, and a million records, are under 100 characters as well."""
    clock = Clock()
    with caplog.at_level(logging.INFO):
        watch = Stopwatch("build_dataset", clock=clock, cpu_clock=clock)
        watch.gpu_taken()
        for phase in (watch.reading, watch.computing, watch.writing):
            with phase():
                clock.now += 1_234.5
        watch.report(1_000_000, 10**11)
    assert max(len(record.message) for record in caplog.records) < 100


def test_a_listener_gets_the_report_of_every_step_that_ends_inside() -> None:
    """Not those before and after; the operators send metrics of them."""
    heard: list[StageReport] = []
    Stopwatch("snapshot").report(1)
    with reports_to(heard.append):
        reports = [Stopwatch("fetch").report(2), Stopwatch("classify").report(3)]
    Stopwatch("publish").report(4)
    assert heard == reports
