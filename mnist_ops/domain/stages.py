"""How long a step took, on what, and its bottleneck."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")

_listener: ContextVar["Callable[[StageReport], None] | None"] = ContextVar("listener", default=None)


# The steps of a classification run, in order.
STEPS = ("snapshot", "fetch", "classify", "assess", "publish", "reconcile")


class _End:
    """What `next` returns when a source is exhausted."""


_END = _End()

_OTHER = "other"
# What each step does in each phase, in words for the closing line and the ledger.
_DOING = {
    "snapshot": {
        "read": "reading records from MongoDB",
        "compute": "compressing the parts",
        "write": "writing the parts to S3",
    },
    "fetch": {
        "read": "reading from the image servers",
        "compute": "hashing images",
        "write": "building the image shard",
        _OTHER: "hashing images and building the image shard",
    },
    "classify": {
        "read": "reading the image shard and the bundle from S3",
        "compute": "decoding and classifying images",
        "write": "building the prediction shard",
    },
    "assess": {"read": "reading the prediction shards from S3"},
    "publish": {
        "read": "reading the prediction shard and the part from S3",
        "compute": "building the updates",
        "write": "writing to MongoDB",
    },
    "reconcile": {
        "read": "reading the outcome shards from S3",
        "compute": "counting outcomes",
        "write": "looking outcomes up in MongoDB",
    },
    "build_dataset": {"read": "reading and decoding images", "compute": "writing the data set's rows"},
    "train": {"read": "reading the data set from S3", "compute": "training the network"},
    "evaluate": {"read": "reading data set, training and champion from S3", _OTHER: "measuring the models"},
}
_DOING_ELSE = {"read": "reading", "compute": "computing", "write": "writing", _OTHER: "everything else"}


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one step did for one part (or for a whole run), and what it used.

    `read_s`, `compute_s`, `write_s` and `other_s` are times of the step's main thread, which is in one phase
    at a time: they add up to `seconds`. The work of other threads is in `cpu_s` and `gpu_s` only.

    Attributes:
        stage: the step's name.
        records: records processed.
        seconds: wall time.
        read_s: of it, waiting for input (MongoDB, S3, the image servers).
        compute_s: of it, computing.
        write_s: of it, waiting for output to be written.
        bytes: payload bytes moved: compressed parts, images, shards.
        s3_requests: requests to the object store by kind.
        cpu_s: CPU time of the process, user and system, all its threads.
        gpu_s: time in which the step held a CUDA device.
        s3_sent: bytes sent to the object store.
        s3_received: bytes received from it.
    """

    stage: str
    records: int = 0
    seconds: float = 0.0
    read_s: float = 0.0
    compute_s: float = 0.0
    write_s: float = 0.0
    bytes: int = 0
    s3_requests: Mapping[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    s3_sent: int = 0
    s3_received: int = 0

    @property
    def rate(self) -> float:
        """Records a second of wall time."""
        return self.records / self.seconds if self.seconds > 0 else 0.0

    @property
    def other_s(self) -> float:
        """The rest of the wall time: neither reading nor computing nor writing."""
        return self.seconds - self.read_s - self.compute_s - self.write_s

    @property
    def bottleneck(self) -> str:
        """The phase that took most of the wall time, in words."""
        phases = {"read": self.read_s, "compute": self.compute_s, "write": self.write_s, _OTHER: self.other_s}
        longest = max(phases, key=lambda phase: phases[phase])
        return _DOING.get(self.stage, {}).get(longest, _DOING_ELSE[longest])

    def document(self) -> dict[str, object]:
        """As JSON-able values, seconds to the millisecond."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def of(document: Mapping[str, Any]) -> "StageReport":
        """Read back what `document` gave."""
        return StageReport(**document)

    def with_upload(self, requests: Mapping[str, int], size: int) -> "StageReport":
        """The same, with the upload of the step's result added, which the result itself cannot contain.

        Args:
            requests: the requests of the upload, by kind.
            size: bytes uploaded.
        """
        both = dict(Counter(self.s3_requests) + Counter(requests))
        return replace(self, s3_requests=both, s3_sent=self.s3_sent + size)

    def __add__(self, other: "StageReport") -> "StageReport":
        """The sum over two parts; seconds add up to task-seconds."""
        return StageReport(
            stage=self.stage,
            records=self.records + other.records,
            seconds=self.seconds + other.seconds,
            read_s=self.read_s + other.read_s,
            compute_s=self.compute_s + other.compute_s,
            write_s=self.write_s + other.write_s,
            bytes=self.bytes + other.bytes,
            s3_requests=dict(Counter(self.s3_requests) + Counter(other.s3_requests)),
            cpu_s=self.cpu_s + other.cpu_s,
            gpu_s=self.gpu_s + other.gpu_s,
            s3_sent=self.s3_sent + other.s3_sent,
            s3_received=self.s3_received + other.s3_received,
        )


@contextmanager
def reports_to(listener: Callable[[StageReport], None]) -> Iterator[None]:
    """Inside, pass the report of every step that ends in this thread to a listener, such as metrics."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Stopwatch:
    """Measures a step, with separate times for reading, computing and writing, and logs its closing lines.

    Only the step's main thread uses it. A phase within a phase counts as the inner one only, so that the
    phases add up. Create it before the step's first request.

    Args:
        stage: the step's name.
        requests: the object store's running count of requests by kind.
        moved: its running count of bytes, `sent` and `received`.
        clock: seconds, monotonic.
        cpu_clock: CPU seconds of the process.
    """

    def __init__(
        self,
        stage: str,
        requests: Mapping[str, int] | None = None,
        moved: Mapping[str, int] | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._stage = stage
        self._requests = requests if requests is not None else {}
        self._requests_before = Counter(self._requests)
        self._moved = moved if moved is not None else {}
        self._moved_before = Counter(self._moved)
        self._clock, self._cpu_clock = clock, cpu_clock
        self._cpu_before = cpu_clock()
        self._started = self._since = clock()
        self._gpu_since: float | None = None
        self._phase = _OTHER
        self._spent = {"read": 0.0, "compute": 0.0, "write": 0.0, _OTHER: 0.0}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count the enclosed time as reading."""
        yield from self._during("read")

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the enclosed time as computing."""
        yield from self._during("compute")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count the enclosed time as writing."""
        yield from self._during("write")

    def _during(self, phase: str) -> Iterator[None]:
        former = self._turn_to(phase)
        try:
            yield
        finally:
            self._turn_to(former)

    def _turn_to(self, phase: str) -> str:
        """Add the time since the last call to the phase that ends; returns that phase."""
        now, former = self._clock(), self._phase
        self._spent[former] += now - self._since
        self._since, self._phase = now, phase
        return former

    def reads(self, source: Iterable[T]) -> Iterator[T]:
        """Pass a source's items through; the time spent waiting for them counts as reading."""
        items = iter(source)
        while True:
            # Not `reading()`, which is slower: this runs once a record.
            former = self._turn_to("read")
            try:
                item = next(items, _END)
            finally:
                self._turn_to(former)
            if isinstance(item, _End):
                return
            yield item

    def gpu_taken(self) -> None:
        """Count the time from now on as `gpu_s`: the step holds a CUDA device."""
        self._gpu_since = self._clock()

    def report(self, records: int, size: int = 0) -> StageReport:
        """Stop, log the closing lines, and return the measurements.

        Args:
            records: records processed.
            size: payload bytes moved.
        """
        self._turn_to(self._phase)
        moved = Counter(self._moved) - self._moved_before
        report = StageReport(
            stage=self._stage,
            records=records,
            seconds=self._since - self._started,
            read_s=self._spent["read"],
            compute_s=self._spent["compute"],
            write_s=self._spent["write"],
            bytes=size,
            s3_requests=dict(Counter(self._requests) - self._requests_before),
            cpu_s=self._cpu_clock() - self._cpu_before,
            gpu_s=0.0 if self._gpu_since is None else self._since - self._gpu_since,
            s3_sent=moved["sent"],
            s3_received=moved["received"],
        )
        _log.info("%s", _closing_line(report))
        _log.info("%s", _resources_line(report))
        if (listener := _listener.get()) is not None:
            listener(report)
        return report


def _closing_line(report: StageReport) -> str:
    phases = {
        "read": report.read_s,
        "compute": report.compute_s,
        "write": report.write_s,
        "other": abs(report.other_s),  # rounding may leave it just below zero
    }
    spent = ", ".join(f"{phase} {_seconds(seconds)}" for phase, seconds in phases.items())
    return (
        f"{report.stage}: {report.records} records in {_seconds(report.seconds)} s, {report.rate:.0f}/s: "
        f"{spent} s"
    )


def _resources_line(report: StageReport) -> str:
    gpu = f", gpu {_seconds(report.gpu_s)} s" if report.gpu_s else ""
    megabytes = report.bytes / 1_000_000
    return f"bottleneck: {report.bottleneck}; cpu {_seconds(report.cpu_s)} s{gpu}, {megabytes:.2f} MB"


def _seconds(seconds: float) -> str:
    """With decimals only where they matter, so that the line stays under 100 characters."""
    return f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"
