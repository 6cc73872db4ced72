"""The link from a task to the page of its run: outcomes, failures and pictures."""

from typing import Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperator, BaseOperatorLink


class RunLink(BaseOperatorLink):
    """From a task that assesses, publishes or reconciles to the page of its run."""

    name = "Run page"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002
        """The page's address, as a path on the UI's host."""
        from mnist_airflow.pages import path_of

        return path_of(f"/run?{urlencode({'dag_id': ti_key.dag_id, 'run_id': ti_key.run_id})}")
