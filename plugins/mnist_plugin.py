"""The only plugin: what MNIST Ops adds to Airflow's UI."""

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin


async def _reports(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI's own)
    """The reports of models; imported when somebody asks, so that it can never take the API server down."""
    from mnist_airflow.reports import reports_app

    await reports_app()(scope, receive, send)


class MnistOpsPlugin(AirflowPlugin):
    """Pages of MNIST Ops."""

    name = "mnist_ops"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [
        {"app": _reports, "url_prefix": "/mnist-ops/reports", "name": "MNIST Ops reports"}
    ]
