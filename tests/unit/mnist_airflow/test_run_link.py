"""The link from a task to the page of its run."""

from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

from mnist_airflow.run_link import RunLink


def test_the_link_names_the_run_of_the_task() -> None:
    """A run id has characters that mean something in an address."""
    run_id = "manual__2026-01-31T00:00:00+00:00 & more"
    link = RunLink().get_link(None, ti_key=SimpleNamespace(dag_id="classify_records", run_id=run_id))
    assert urlsplit(link).path == "/mnist-ops/run"
    assert parse_qs(urlsplit(link).query) == {"dag_id": ["classify_records"], "run_id": [run_id]}
