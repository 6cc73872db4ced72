"""How many requests one host gets at once: slow start, then AIMD (as TCP's congestion control)."""

import math

_INITIAL = 4.0
# A response may take this much longer than the fastest one before it counts as a sign of overload.
_SLACK_S = 0.1


class ConcurrencyLimit:
    """A limit that grows while responses are fast and is halved when the host is overloaded.

    Slow start: it doubles each round trip until the first overload. Then additive increase, multiplicative
    decrease (AIMD): one more each round trip, half as many at an overload.

    Attributes:
        value: requests at once; the whole part of it counts.
    """

    __slots__ = ("_fastest_s", "_maximum", "_reduced_at", "_slow_start", "value")

    def __init__(self, maximum: int) -> None:
        self._maximum = float(maximum)
        self.value = min(_INITIAL, self._maximum)
        self._slow_start = True
        self._fastest_s = math.inf
        self._reduced_at = -math.inf

    def record_success(self, took_s: float) -> None:
        """Grow after a response that took `took_s` seconds, unless it was slow."""
        self._fastest_s = min(self._fastest_s, took_s)
        if took_s <= max(2.0 * self._fastest_s, self._fastest_s + _SLACK_S):
            # One for each response doubles the limit in a round trip; its inverse adds one.
            step = 1.0 if self._slow_start else 1.0 / self.value
            self.value = min(self.value + step, self._maximum)

    def record_overload(self, started_at: float, now: float) -> None:
        """Halve after a request, begun at `started_at`, that failed as those to an overloaded host do."""
        # Requests that began before the last reduction tell nothing about the load after it.
        if started_at >= self._reduced_at:
            self.value = max(1.0, self.value / 2.0)
            self._slow_start = False
            self._reduced_at = now
