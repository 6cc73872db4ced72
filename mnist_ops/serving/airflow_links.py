"""Links from a run's page into Airflow's own UI, and what the page asks of Airflow's REST API."""

from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request

from mnist_ops.domain.backfill_windows import DAG_ID

# The tasks of that DAG, by the step that each runs; other DAGs may name theirs otherwise.
_TASKS = {
    "snapshot": "snapshot",
    "fetch": "part.fetch",
    "classify": "part.classify",
    "assess": "assess",
    "publish": "publish",
    "reconcile": "reconcile",
}
_MAPPED = frozenset({"fetch", "classify", "publish"})
_MOUNTED_AT = "/mnist-ops"


def airflow_root(request: Request) -> str:
    """The path of the UI of the Airflow that serves the pages, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/").removesuffix(_MOUNTED_AT)


@dataclass(frozen=True, slots=True)
class AirflowLinks:
    """The addresses of a DAG run in the Airflow that serves the pages.

    Attributes:
        root: the path of Airflow's UI, without a slash at its end.
        dag_id: the DAG.
        run_id: the DAG run.
    """

    root: str
    dag_id: str
    run_id: str

    @staticmethod
    def of(request: Request, dag_run: tuple[str, str] | None) -> "AirflowLinks | None":
        """The links of a DAG run; None for other runs, and where Airflow does not serve the pages."""
        if dag_run is None or not request.app.state.airflow:
            return None
        return AirflowLinks(airflow_root(request), *dag_run)

    @property
    def run(self) -> str:
        """The DAG run's page."""
        return f"{self.root}/dags/{quote(self.dag_id, safe='')}/runs/{quote(self.run_id, safe='')}"

    def task(self, step: str) -> str | None:
        """The page of the task that ran a step, with its log; None where its name is not known."""
        if self.dag_id != DAG_ID or step not in _TASKS:
            return None
        return f"{self.run}/tasks/{_TASKS[step]}" + ("/mapped" if step in _MAPPED else "")

    @property
    def clear(self) -> str:
        """Where Airflow's REST API clears tasks of the DAG."""
        return f"{self.root}/api/v2/dags/{quote(self.dag_id, safe='')}/clearTaskInstances"
