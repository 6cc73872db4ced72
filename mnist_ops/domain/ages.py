"""The ages of records at publication: how long after its creation each one had its prediction.

Every part counts its ages in a histogram. The histograms of all parts add up, so that a run's percentiles are
known without keeping an age for each record.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# Bucket 0 holds the ages under 1 ms; bucket k those from 1 ms * 1.04^(k-1) up to 1 ms * 1.04^k. An age is
# read back as the geometric middle of its bucket, at most 2 % off. 20 years take 694 buckets.
_SHORTEST_S = 0.001
_GROWTH = 1.04
_LOG_GROWTH = math.log(_GROWTH)


def age_s(created_at: datetime | None, published_at: datetime) -> float | None:
    """How long after its creation a record was published, in seconds; None without a creation time.

    A record whose clock is ahead of ours, so that it was created after its publication, has age 0.
    """
    return None if created_at is None else max((published_at - created_at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class AgeSummary:
    """The ages of a run's records at publication.

    Attributes:
        records: records that had no prediction before this run, and have one from it.
        p50: the age that half of them do not exceed, in seconds.
        p95: the age that 95 % of them do not exceed, in seconds.
        max: the largest age, in seconds.
    """

    records: int
    p50: float
    p95: float
    max: float

    def document(self) -> dict[str, int | float]:
        """As JSON-able values, seconds to the millisecond."""
        return {
            "records": self.records,
            "p50": round(self.p50, 3),
            "p95": round(self.p95, 3),
            "max": round(self.max, 3),
        }

    def __str__(self) -> str:
        return f"p50 {duration(self.p50)}, p95 {duration(self.p95)}"


@dataclass(slots=True)
class AgeHistogram:
    """Ages of records, counted in buckets whose widths are 4 % of their ages.

    Attributes:
        buckets: records by the number of their bucket.
        max_s: the largest age in seconds, exactly.
    """

    buckets: Counter[int] = field(default_factory=Counter)
    max_s: float = 0.0

    def add(self, age_s: float) -> None:
        """Count a record; its age is in seconds, 0 or more."""
        above = age_s / _SHORTEST_S
        self.buckets[0 if above < 1 else 1 + int(math.log(above) / _LOG_GROWTH)] += 1
        self.max_s = max(self.max_s, age_s)

    def merge(self, other: "AgeHistogram") -> None:
        """Add the records of another histogram."""
        self.buckets.update(other.buckets)
        self.max_s = max(self.max_s, other.max_s)

    def summary(self) -> AgeSummary | None:
        """Records, percentiles and the largest age; None if no record was counted."""
        if not self.buckets:
            return None
        return AgeSummary(self.buckets.total(), self._quantile(0.50), self._quantile(0.95), self.max_s)

    def _quantile(self, share: float) -> float:
        """The age in seconds of the last of the youngest `share` of records, at most 2 % off."""
        rank, seen = math.ceil(share * self.buckets.total()), 0
        for number in sorted(self.buckets):
            seen += self.buckets[number]
            if seen >= rank:
                return min(_middle_s(number), self.max_s)
        return self.max_s

    def document(self) -> dict[str, object]:
        """As JSON-able values."""
        return {
            "buckets": {str(number): count for number, count in sorted(self.buckets.items())},
            "max_s": self.max_s,
        }

    @staticmethod
    def of(document: Mapping[str, Any]) -> "AgeHistogram":
        """Read back what `document` gave.

        Raises:
            KeyError, ValueError, TypeError: it is not the document of a histogram.
        """
        buckets = Counter({int(number): int(count) for number, count in document["buckets"].items()})
        return AgeHistogram(buckets, float(document["max_s"]))


def _middle_s(number: int) -> float:
    return _SHORTEST_S * _GROWTH ** (number - 0.5) if number else 0.0


def duration(seconds: float) -> str:
    """Seconds in words, to two or three digits: `4.2 s`, `11 s`, `3.5 min`, `26 h`, `12 days`."""
    limits = (120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h"), (math.inf, 86_400, "days")
    size, unit = next((size, unit) for limit, size, unit in limits if seconds < limit)
    value = seconds / size
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
