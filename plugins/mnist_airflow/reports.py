"""The link from the task that released a model to the model's report."""

from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink


class ReportLink(BaseOperatorLink):
    """From the task that released a model to the model's report."""

    name = "Model report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002
        """The report's address, as a path on the UI's host; empty for models of another name."""
        from mnist_airflow.pages import path_of
        from mnist_ops.settings import Settings

        gate_result = ti_key.xcom_pull(task_ids=ti_key.task_id)
        if not gate_result or gate_result["bundle"]["name"] != Settings().model_name:
            return ""
        return path_of(f"/reports/{gate_result['bundle']['version']}")
