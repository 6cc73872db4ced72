"""How long a step took, and on what."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")


class _End:
    """What `next` gives when a source has run dry."""


_END = _End()


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one step did to one part (or to a whole run).

    Attributes:
        stage: the step's name.
        records: records gone through.
        seconds: wall time.
        read_s: of it, waiting for input (MongoDB, S3, the image servers).
        compute_s: of it, working.
        write_s: of it, waiting for output to be taken.
        bytes: payload bytes moved: compressed parts, images, shards.
        s3_requests: requests to the object store by kind, up to when the step's result was stored.
    """

    stage: str
    records: int = 0
    seconds: float = 0.0
    read_s: float = 0.0
    compute_s: float = 0.0
    write_s: float = 0.0
    bytes: int = 0
    s3_requests: Mapping[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Records a second of wall time."""
        return self.records / self.seconds if self.seconds > 0 else 0.0

    def document(self) -> dict[str, object]:
        """As JSON-able values, seconds to the millisecond."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def of(document: Mapping[str, object]) -> "StageReport":
        """Read back what `document` gave."""
        return StageReport(**document)  # type: ignore[arg-type]

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
        )


class Stopwatch:
    """Measures a step with reading, computing and writing apart, and logs its closing line.

    Args:
        stage: the step's name.
        requests: the object store's running count of requests by kind, if it counts.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        stage: str,
        requests: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._stage = stage
        self._requests = requests if requests is not None else {}
        self._requests_before = Counter(self._requests)
        self._clock = clock
        self._started = clock()
        self._phases = {"read": 0.0, "compute": 0.0, "write": 0.0}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count the enclosed time as reading."""
        yield from self._phase("read")

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the enclosed time as computing."""
        yield from self._phase("compute")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count the enclosed time as writing."""
        yield from self._phase("write")

    def _phase(self, name: str) -> Iterator[None]:
        started = self._clock()
        try:
            yield
        finally:
            self._phases[name] += self._clock() - started

    def reads(self, source: Iterable[T]) -> Iterator[T]:
        """Pass a source's items through, counting the waits for them as reading."""
        items = iter(source)
        while True:
            with self.reading():
                item = next(items, _END)
            if isinstance(item, _End):
                return
            yield item

    def report(self, records: int, size: int = 0) -> StageReport:
        """Stop, log the closing line, and say what was measured.

        Args:
            records: records gone through.
            size: payload bytes moved.
        """
        report = StageReport(
            stage=self._stage,
            records=records,
            seconds=self._clock() - self._started,
            read_s=self._phases["read"],
            compute_s=self._phases["compute"],
            write_s=self._phases["write"],
            bytes=size,
            s3_requests=dict(Counter(self._requests) - self._requests_before),
        )
        _log.info(
            "%s: %d records in %.2f s, %.0f/s (read %.2f s, compute %.2f s, write %.2f s), %d bytes",
            report.stage,
            report.records,
            report.seconds,
            report.rate,
            report.read_s,
            report.compute_s,
            report.write_s,
            report.bytes,
        )
        return report
