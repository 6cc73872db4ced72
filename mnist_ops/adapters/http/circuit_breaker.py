"""The circuit breaker of one host: after repeated failures its URLs fail without a request, for a while."""

import math

from mnist_ops.adapters.http.responses import LONGEST_DETAIL, RequestFailure
from mnist_ops.domain.fetch_policy import FetchPolicy


class CircuitBreaker:
    """Counts the transient failures of one host that came in a row.

    Closed: requests are sent. Open: none is. The circuit opens after `circuit_breaker_failures` failures in
    a row, once the host has been failing for `circuit_breaker_failing_s`, or at once if the host asks with a
    `Retry-After` longer than `max_retry_after_s`. When the open time is over, requests are sent again
    (half-open): the next failure opens the circuit again, the next success closes it.

    Attributes:
        failures: transient failures in a row.
        open_until: when the circuit stops being open, in the fetch's seconds.
    """

    __slots__ = ("_failing_since", "_last_failure", "_policy", "failures", "open_until")

    # Unset before the first failure.
    _failing_since: float
    _last_failure: RequestFailure

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self.failures = 0
        self.open_until = -math.inf

    def record_failure(self, failure: RequestFailure, started_at: float, now: float) -> None:
        """Count a transient failure of a request that began at `started_at`; may open the circuit."""
        if not self.failures:
            self._failing_since = started_at
        self.failures += 1
        self._last_failure = failure
        if self.failures < self._policy.circuit_breaker_failures:
            return
        retry_after_s = failure.retry_after_s or 0.0
        if retry_after_s > self._policy.max_retry_after_s:
            self.open_until = now + retry_after_s
        elif now - self._failing_since >= self._policy.circuit_breaker_failing_s:
            self.open_until = now + self._policy.circuit_breaker_open_s

    def rejection(self, host: str, now: float) -> RequestFailure:
        """The failure of a URL that is not requested because the circuit is open.

        It has the reason of the host's last failure, and what is left of the `Retry-After` if that had one.
        """
        last = self._last_failure
        detail = f"{host} failed {self.failures} times in a row, so its circuit is open; last: {last.detail}"
        retry_after_s = None if last.retry_after_s is None else self.open_until - now
        return RequestFailure(last.reason, detail[:LONGEST_DETAIL], None, retry_after_s)
