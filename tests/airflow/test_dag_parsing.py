"""What it costs to parse the DAG files, and what the plugin loader makes of `plugins/`.

Airflow parses in processes of its own, again and again: so does this, in a fresh one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "numpy", "pyarrow", "onnxruntime")
LONGEST_SECONDS = 1.0

# Plugins first, as a DAG processor loads them, and what is loaded by then; then the DAGs.
SCRIPT = """
import json, sys
from airflow import plugins_manager
errors = plugins_manager.get_import_errors()
def of_folder():
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {name: file for name, file in files.items() if file and "/plugins/mnist_airflow/" in file}
by_loader = of_folder()
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])
json.dump({
    "plugin_errors": errors,
    "loaded_with_plugins": by_loader,
    "loaded_with_dags": of_folder(),
    "import_errors": bag.import_errors,
    "dags": {dag_id: dag.fileloc for dag_id, dag in bag.dags.items()},
    "seconds": {stat.file: stat.duration.total_seconds() for stat in bag.dagbag_stats},
    "heavy": [name for name in sys.argv[3:] if name in sys.modules],
}, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory) -> Mapping[str, Any]:
    """What a fresh process found in `plugins/` and `dags/`."""
    folder = tmp_path_factory.mktemp("parsing")
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "dags"), str(folder / "found.json"), *HEAVY]
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
    }
    subprocess.run(command, env=environment, cwd=folder, check=True, timeout=120, capture_output=True)
    return json.loads((folder / "found.json").read_text())


def test_every_dag_file_parses_without_an_error(parsed) -> None:
    """No DAG file fails to import."""
    assert parsed["import_errors"] == {}


def test_every_dag_file_holds_the_dag_it_is_named_for(parsed) -> None:
    """A DAG is found in the file of its name."""
    files = {file.stem for file in (ROOT / "dags").glob("*.py")}
    assert {dag_id: Path(file).stem for dag_id, file in parsed["dags"].items()} == {
        name: name for name in files
    }


def test_every_dag_file_parses_in_less_than_a_second(parsed) -> None:
    """A slow file would hold up all others in the DAG processor."""
    assert len(parsed["seconds"]) == len(parsed["dags"])
    assert max(parsed["seconds"].values()) < LONGEST_SECONDS, parsed["seconds"]


@pytest.mark.parametrize("package", HEAVY)
def test_parsing_imports_nothing_heavy(parsed, package) -> None:
    """What a task needs is imported when the task runs."""
    assert package not in parsed["heavy"]


def test_no_plugin_fails_to_import(parsed) -> None:
    """The plugin loader reports no error."""
    assert parsed["plugin_errors"] == {}


def test_the_plugin_loader_leaves_the_operators_alone(parsed) -> None:
    """It would import `plugins/mnist_airflow` a second time, under other names; Airflow has the policy."""
    assert set(parsed["loaded_with_plugins"]) == {"mnist_airflow", "mnist_airflow.backfills"}


def test_dags_import_the_operators_under_their_own_name(parsed) -> None:
    """There is one copy of every module of `plugins/mnist_airflow`."""
    assert "mnist_airflow.operators.records" in parsed["loaded_with_dags"]
    assert all(name.split(".")[0] == "mnist_airflow" for name in parsed["loaded_with_dags"])


def test_planning_imports_no_torch() -> None:
    """The plan is made on a default worker, whose image has none."""
    script = "import sys, mnist_ops.vision.config.sweep; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)
