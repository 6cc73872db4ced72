"""A person's approval between the gate and the promotion."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

from mnist_airflow.operators.base import permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context

RESPONSE_TIMEOUT = timedelta(days=2)


class ApprovePromotionOperator(ApprovalOperator):
    """Ask a person whether a released model may be promoted, if the run or the settings require it.

    Returns who answered what, for PromoteModelOperator, or None if no approval is required. A rejection, or
    no answer in time, skips the tasks after it and leaves the model a candidate. If the gate has already
    refused the model, this task and those after it are skipped.

    The run stays active until there is an answer: in a DAG with `max_active_runs=1`, such as train_lenet, an
    unanswered request delays the next run until `response_timeout` is over.

    Args:
        gate_result: what ReleaseModelOperator returns.
        required: whether to ask; `MNIST_OPS_REQUIRE_APPROVAL` asks in any case.
        response_timeout: how long to wait for an answer; two days.
        kwargs: ApprovalOperator's arguments.
    """

    template_fields = (*ApprovalOperator.template_fields, "gate_result", "required")

    def __init__(
        self,
        *,
        gate_result: Mapping[str, Any] | Any,  # noqa: ANN401 (before it is rendered, the output of a task)
        required: bool | str = False,
        response_timeout: timedelta = RESPONSE_TIMEOUT,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        comment = Param("", type="string", title="Comment", description="Kept with the promotion.")
        asked = {
            "subject": "Promote a released model?",
            "defaults": self.REJECT,
            "params": {"comment": comment},
        }
        super().__init__(response_timeout=response_timeout, **(asked | kwargs))
        self.gate_result = gate_result
        self.required = required

    def execute(self, context: "Context") -> None:
        """Ask, and wait without holding a worker."""
        from mnist_ops.settings import Settings

        bundle, why = self.gate_result["bundle"], self.gate_result["why"]
        if not self.gate_result["promote"]:
            raise AirflowSkipException(f"{bundle['name']} {bundle['version']} stays a candidate: {why}")
        with permanent_errors_fail():
            is_required = self.required or Settings().require_approval
        if not is_required:
            self.log.info("no approval is required")
            return
        self.subject = f"Promote {bundle['name']} {bundle['version']}? {why}"
        self.body = f"{why}\n\nThe bundle: `{bundle['uri']}`, `{bundle['digest']}`"
        super().execute(context)
