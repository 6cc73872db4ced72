"""Reads an index range by range until enough is found.

MongoDB stops at the limit of a query. The embedded server reads the whole range first, and applies the limit
then. So the ranges begin small, and grow with what they hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

BEFORE_ANY = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ranges:
    """How wide the ranges are.

    Attributes:
        first: the width of the first one.
        growth: how much wider the next one may be; 1 or more.
    """

    first: float
    growth: float

    def read(self, read: Callable[[float, float], int], wanted: int, end: float) -> int:
        """Read consecutive ranges from 0 to `end` until `wanted` entries are found.

        Args:
            read: reads the range from its first argument until before its second one; returns the number
                found.
            wanted: stop as soon as this many are found.
            end: where the last range ends.

        Returns:
            How many were found; possibly more than `wanted`, and fewer if there are no more.
        """
        found, start, width = 0, 0.0, self.first
        while start < end and found < wanted:
            stop = min(start + width, end)
            entries = read(start, stop)
            found += entries
            # As wide as holds what is missing at the density of this range.
            growth = (wanted - found) / entries if entries else self.growth
            width *= min(max(growth, 0.1), self.growth)
            start = stop
        return found


def earlier(at: datetime, seconds: float) -> datetime:
    """The moment that many seconds before another one; `BEFORE_ANY` if there is none."""
    # The whole range in seconds is rounded, and may reach a little further back than a date can.
    return BEFORE_ANY if seconds >= (at - BEFORE_ANY).total_seconds() else at - timedelta(seconds=seconds)
