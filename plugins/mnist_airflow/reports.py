"""Reports of released models in Airflow's UI: the app that serves them, and the link to each."""

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseOperator, BaseOperatorLink

if TYPE_CHECKING:
    from fastapi import FastAPI

URL_PREFIX = "/mnist-ops/reports"
DAG_ID = "train_lenet"
PAGE = "report/index.html"  # in a bundle


@cache
def reports_app() -> "FastAPI":
    """The app for Airflow's API server: a user who may read runs of train_lenet may read its reports."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag, requires_authenticated
    from fastapi import Depends, FastAPI

    from mnist_ops.serving.reports import report_router

    app = FastAPI(
        title="MNIST Ops reports",
        dependencies=[
            Depends(requires_authenticated()),
            Depends(requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id=DAG_ID)),
        ],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.include_router(report_router(read_report))
    return app


def read_report(version: int) -> bytes | None:
    """The report of a version, read through Airflow's connections.

    Raises:
        MnistOpsError: it cannot be read, whatever the reason.
    """
    from mnist_airflow.connections import pipeline_of_connections
    from mnist_ops.domain.errors import MnistOpsError, Transient
    from mnist_ops.settings import Settings

    try:
        settings = Settings()
        with pipeline_of_connections(settings, "mongo_default", "aws_default") as pipeline:
            for model in pipeline.adapters.models.models(settings.model_name):
                if model.bundle.version == version:
                    return pipeline.adapters.objects.get_bytes(f"{model.bundle.uri}/{PAGE}")
            return None
    except MnistOpsError:
        raise
    except Exception as error:
        # A connection that is missing or cannot be read, in the words of whichever hook noticed.
        raise Transient(f"the connections or settings cannot be used: {type(error).__name__}") from error


class ReportLink(BaseOperatorLink):
    """From the task that released a model to the model's report."""

    name = "Model report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002
        """The report's address, as a path on the UI's host; empty for models of another name."""
        from airflow.sdk.configuration import conf

        from mnist_ops.settings import Settings

        gate_result = ti_key.xcom_pull(task_ids=ti_key.task_id)
        if not gate_result or gate_result["bundle"]["name"] != Settings().model_name:
            return ""
        base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return f"{base}{URL_PREFIX}/{gate_result['bundle']['version']}"
