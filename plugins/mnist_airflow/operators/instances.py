"""The machine that trains: started for a training, and stopped after it whatever became of it."""

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.ec2 import EC2StartInstanceOperator, EC2StopInstanceOperator

from mnist_airflow.operators.base import permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context


class StartTrainingInstanceOperator(EC2StartInstanceOperator):
    """Start the EC2 instance that trains, and wait until it runs; does nothing where none is named.

    Make it the setup of StopTrainingInstanceOperator. A teardown is not run after a setup that failed,
    so an instance that did not come up is stopped right here.

    Args:
        instance_id: the instance; by default `MNIST_OPS_TRAINING_INSTANCE_ID`.
        kwargs: EC2StartInstanceOperator's arguments, such as aws_conn_id and region_name.
    """

    def __init__(self, *, instance_id: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(instance_id=instance_id or "", **kwargs)

    def execute(self, context: "Context") -> None:
        """Start."""
        self.instance_id = self.instance_id or _named_instance()
        if not self.instance_id:
            self.log.info("no instance is named, so the workers of the queue have to be up")
            return
        try:
            if self.hook.get_instance_state(instance_id=self.instance_id) == "stopping":
                self.hook.wait_for_state(self.instance_id, "stopped", self.check_interval)
            super().execute(context)
        except BaseException:
            self.hook.get_instance(instance_id=self.instance_id).stop()
            raise


class StopTrainingInstanceOperator(EC2StopInstanceOperator):
    """Stop the EC2 instance that trains, and wait until it has; does nothing where none is named.

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
