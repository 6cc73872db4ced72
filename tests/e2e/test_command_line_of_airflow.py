"""`mnist-ops airflow`: Airflow's own command line reaches the running stack."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def airflow(deployment, layout):  # noqa: ARG001 (it runs)
    """Runs `mnist-ops airflow` with arguments on the running stack; returns the finished process."""
    environment = {**os.environ, "MNIST_OPS_LOCAL_DIR": str(layout.root)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "mnist_ops", "airflow", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_it_works_on_the_dags_of_the_stack(airflow):
    """It finds the database, and DAGs that are paused or not, as the UI shows them."""
    done = airflow("dags", "list", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert {dag["dag_id"] for dag in json.loads(done.stdout)} == {
        "after_labelling",
        "on_arrival",
        "classify_records",
        "train_lenet",
    }


def test_a_backfill_is_planned_as_the_readme_says(airflow):
    """The README's command with `--dry-run`: nothing is created."""
    done = airflow(
        *("backfill", "create", "--dag-id", "classify_records", "--dry-run"),
        *("--from-date", "2026-11-01", "--to-date", "2026-11-07", "--reprocess-behavior", "completed"),
        *("--dag-run-conf", '{"reclassify": "stale"}'),
    )
    assert done.returncode == 0, done.stderr
    assert "| 2026-11-07 00:00:00+00:00 |" in done.stdout
    assert "| 2026-11-08 00:00:00+00:00 |" not in done.stdout


def test_its_exit_code_is_airflows(airflow):
    """Scripts rely on it."""
    assert airflow("dags", "details", "unheard_of").returncode == 1
