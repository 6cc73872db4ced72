"""How long a failed task is tried again.

An error that may pass by itself, `Transient`, is retried for more than an hour: the time that it takes to
notice that a database is down, and to bring it back. What no retry can fix, `Permanent`, fails at once. Any
other exception is a fault of the program, a connection that was not found, or a time limit, and gets a few
retries. Outages before it do not use them up.

The policy is asked in the task's process. So a task whose process is killed, by SIGKILL or because the memory
is exhausted, gets all retries: Airflow only sees that its process ended or its heartbeat is missing.

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

    The tries that ended with another exception are counted in the task's state store, which outlives a try.

    Attributes:
        fault_retries: how many retries another exception gets, of those that the task has.
    """

    fault_retries: int = _FAULT_RETRIES

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # noqa: ARG002
        max_tries: int,
        context: "Context | None" = None,
    ) -> RetryDecision:
        """Decide about a failed try; Airflow calls this in the task's process.

        Args:
            exception: what the task raised.
            try_number: of this try, from 1; it counts on when the task is cleared.
            max_tries: the number of the last try but one; it changes when the task is cleared.
            context: the task's; without one Airflow's own rule applies.
        """
        from mnist_ops.domain.errors import Transient

        if isinstance(exception, Transient) or context is None:
            return RetryDecision.default()
        # A key for each time that the task was cleared, since the store outlives that too.
        key = f"faults of at most {max_tries} tries"
        faults = int(context["task_state_store"].get(key, 0)) + 1
        if faults > self.fault_retries:
            name = type(exception).__name__
            reason = f"{name} is no outage: not tried again after {self.fault_retries} retries"
            return RetryDecision.fail(reason)
        context["task_state_store"].set(key, faults)
        return RetryDecision.default()


RETRIES: dict[str, Any] = {
    "retries": _RETRIES,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RetryTransient(),
}
