"""The training instance: started for a training and always stopped after it, regardless of the outcome."""

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.ec2 import EC2StartInstanceOperator, EC2StopInstanceOperator
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from mnist_airflow.operators.base import permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context


_STOPPED = frozenset({"stopping", "stopped", "shutting-down", "terminated"})
_STOP_RETRY_S = 1.0  # between two attempts to stop an instance
# Codes of EC2's answers that no retry changes: no such instance, or not allowed.
_FINAL_CODES = ("InvalidInstanceID", "UnauthorizedOperation", "AuthFailure")


class StartTrainingInstanceOperator(EC2StartInstanceOperator):
    """Start the EC2 instance that trains and wait until it runs; does nothing if none is named.

    Make it the setup of StopTrainingInstanceOperator. Airflow does not run a teardown after a failed setup,
    so this operator itself stops an instance that did not come up, also when its task is killed while it
    waits. EC2 refuses to stop a pending instance, so the request is repeated.

    Args:
        instance_id: the instance; by default `MNIST_OPS_TRAINING_INSTANCE_ID`.
        stop_timeout_s: how long to retry the stop after a failed start, in seconds. After a kill Airflow
            leaves about five seconds; the CloudFormation template's own stop covers what is still pending.
        kwargs: EC2StartInstanceOperator's arguments, such as aws_conn_id and region_name.
    """

    def __init__(
        self,
        *,
        instance_id: str | None = None,
        stop_timeout_s: float = 180.0,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(instance_id=instance_id or "", **kwargs)
        self.stop_timeout_s = stop_timeout_s
        self._starting = False

    def execute(self, context: "Context") -> None:
        """Start."""
        self.instance_id = self.instance_id or _named_instance()
        if not self.instance_id:
            self.log.info("no instance is named, so the workers of the queue have to be up")
            return
        state = self._state()
        self._starting = True
        try:
            if state == "stopping":
                self.hook.wait_for_state(self.instance_id, "stopped", self.check_interval)
            super().execute(context)
        except BaseException as error:
            self._starting = False
            try:
                self._stop()
            except Exception as failure:
                # Keep the first error: it is the cause.
                error.add_note(f"{self.instance_id} could not be stopped after it: {failure}")
                self.log.exception("%s could not be stopped and may cost money", self.instance_id)
            raise
        self._starting = False

    def _state(self) -> str:
        """The state of the instance; fails for good where EC2 knows no such instance or may not tell."""
        try:
            state: str = self.hook.get_instance_state(instance_id=self.instance_id)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code.startswith(_FINAL_CODES):
                raise AirflowFailException(
                    f"{self.instance_id}: EC2 answers {code}; correct MNIST_OPS_TRAINING_INSTANCE_ID, or the "
                    f"rights and the region of the connection {self.aws_conn_id}"
                ) from error
            raise
        return state

    def on_kill(self) -> None:
        """Stop waiting, which also stops the instance.

        Airflow calls this in its SIGTERM handler and then lets `execute` continue, which would go on waiting
        for the instance or even start it. So this raises SystemExit: boto3 would treat an Exception as a
        network error. Airflow retries a task that exits.
        """
        if self._starting:
            raise SystemExit(f"killed while {self.instance_id} was starting")

    def _stop(self) -> None:
        """Stop the instance; retried for `stop_timeout_s`."""
        deadline = time.monotonic() + self.stop_timeout_s
        while True:
            try:
                self.hook.get_instance(instance_id=self.instance_id).stop()
                state = self.hook.get_instance_state(instance_id=self.instance_id)
                if state in _STOPPED:
                    return
                failure: Exception = TimeoutError(f"it is {state}")
            except Exception as error:  # noqa: BLE001 (EC2 refuses, or the connection breaks: retried)
                failure = error
            if time.monotonic() >= deadline:
                raise failure
            self.log.info("%s could not be stopped yet: %s", self.instance_id, failure)
            time.sleep(_STOP_RETRY_S)


class StopTrainingInstanceOperator(EC2StopInstanceOperator):
    """Stop the EC2 instance that trains and wait until it is stopped; does nothing if none is named.

    Args:
        instance_id: the instance; by default `MNIST_OPS_TRAINING_INSTANCE_ID`.
        kwargs: EC2StopInstanceOperator's arguments, such as aws_conn_id and region_name.
    """

    def __init__(self, *, instance_id: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(instance_id=instance_id or "", **kwargs)

    def execute(self, context: "Context") -> None:
        """Stop."""
        self.instance_id = self.instance_id or _named_instance()
        if self.instance_id:
            super().execute(context)
        else:
            self.log.info("no instance is named, so there is none to stop")


def _named_instance() -> str:
    from mnist_ops.settings import Settings

    with permanent_errors_fail():
        return Settings().training_instance_id or ""
