"""How long a failed task is tried again.

An error that may pass by itself, `Transient`, is retried for more than an hour: the time that it takes to
notice that a database is down, and to bring it back. What no retry can fix, `Permanent`, fails at once. Any
other exception is a fault of the program or a time limit, and gets a few retries.

`Permanent` is not the policy's business: operators raise it as Airflow's fail exception.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context

# After 10, 20, 40 s and so on up to 10 minutes: 70 minutes in all. Airflow adds up to as much again.
_RETRIES = 12
_FAULT_RETRIES = 3


@dataclass(frozen=True)
class RetryTransient(RetryPolicy):
    """All retries for `Transient`, a few for any other exception.

    Attributes:
        retries: what the task has.
        fault_retries: how many of them another exception gets.
    """

    retries: int = _RETRIES
    fault_retries: int = _FAULT_RETRIES

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: "Context | None" = None,  # noqa: ARG002
    ) -> RetryDecision:
        """Decide about a failed try; Airflow calls this in the task's process.

        Args:
            exception: what the task raised.
            try_number: of this try, from 1; it counts on when the task is cleared.
            max_tries: the number of the last try but one.
            context: the task's.
        """
        from mnist_ops.domain.errors import Transient

        if isinstance(exception, Transient) or self.retries - (max_tries - try_number) <= self.fault_retries:
            return RetryDecision.default()
        name = type(exception).__name__
        return RetryDecision.fail(f"{name} is no outage: not tried again after {self.fault_retries} retries")


RETRIES: dict[str, Any] = {
    "retries": _RETRIES,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RetryTransient(),
}
