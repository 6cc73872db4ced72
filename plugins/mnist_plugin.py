"""The only plugin: registers what MNIST Ops adds to Airflow's UI and scheduler."""

from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


async def _pages(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI's own)
    """The pages. Imported at the first request, so that a fault in them cannot stop the API server."""
    from mnist_airflow.pages import pages_app

    await pages_app()(scope, receive, send)


def _address(page: str) -> str:
    """The path of a page on the UI's host, which may be below a path of a proxy.

    `path_of` of `mnist_airflow.pages` says the same to tasks. Every process of Airflow loads this file, and
    only the API server needs that module.
    """
    return f"{urlsplit(conf.get('api', 'base_url', fallback='')).path.rstrip('/')}/mnist-ops{page}"


class _Listener:
    """Listens for the start of Airflow's parts, and for the start and end of DAG runs."""

    @hookimpl
    def on_starting(self) -> None:
        from mnist_airflow.preload import preload_in_scheduler

        preload_in_scheduler()

    @hookimpl
    def on_dag_run_running(self, dag_run: Any) -> None:  # noqa: ANN401 (Airflow's DagRun, not imported here)
        from mnist_airflow.backfills import move_to_backfill
        from mnist_airflow.removed_tasks import restore_removed_tasks
        from mnist_airflow.savepoint import in_savepoint

        in_savepoint(dag_run, restore_removed_tasks)
        in_savepoint(dag_run, move_to_backfill)

    @hookimpl
    def on_dag_run_success(self, dag_run: Any) -> None:  # noqa: ANN401 (Airflow's DagRun)
        from mnist_airflow.run_notes import write_note
        from mnist_airflow.savepoint import in_savepoint

        in_savepoint(dag_run, write_note)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any) -> None:  # noqa: ANN401 (Airflow's DagRun)
        from mnist_airflow.run_notes import write_note
        from mnist_airflow.savepoint import in_savepoint

        in_savepoint(dag_run, write_note)


class MnistOpsPlugin(AirflowPlugin):
    """Pages, light tasks, notes of runs, runs whose parts change, and backfills that yield to live runs."""

    name = "mnist_ops"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [
        {"app": _pages, "url_prefix": "/mnist-ops", "name": "MNIST Ops"}
    ]
    external_views: ClassVar[list[dict[str, Any]]] = [
        {
            "name": "MNIST Ops",
            "href": _address("/"),
            "destination": "nav",
            "url_route": "mnist-ops",
            "nav_top_level": True,
        },
        # A tab of every DAG run, and of every task of one; the UI fills in the ids.
        {
            "name": "MNIST Ops",
            "href": _address("/run?dag_id={DAG_ID}&run_id={RUN_ID}"),
            "destination": "dag_run",
            "url_route": "mnist-ops-run",
        },
        {
            "name": "MNIST Ops",
            "href": _address("/run?dag_id={DAG_ID}&run_id={RUN_ID}"),
            "destination": "task_instance",
            "url_route": "mnist-ops-task",
        },
    ]
    listeners: ClassVar[list[Any]] = [_Listener()]
