"""What each task of classify_records imports: in a process of its own, on the real servers.

A task costs its imports, in every run and for every part.
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
HEAVY = ("torch", "torchvision", "onnxruntime", "PIL", "matplotlib", "tensorboard")
COLLECTION = "imports"

# One operator, executed as a task would; what it left in sys.modules, and what it returned and pushed.
TASK = """
import datetime, json, sys, types
from mnist_airflow import operators
answer, name, arguments, heavy = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4:]
pushed, now = {}, datetime.datetime.now(datetime.UTC)
run = types.SimpleNamespace(
    dag_id="classify_records", run_id="imports", clear_number=0, conf={}, run_type="manual", run_after=now,
    data_interval_start=None, data_interval_end=None, logical_date=None)
ti = types.SimpleNamespace(try_number=1, xcom_push=pushed.__setitem__)
context = {"dag_run": run, "ti": ti, "dag": types.SimpleNamespace(params={})}
value = getattr(operators, name)(task_id="task", **arguments).execute(context)
found = [module for module in heavy if module in sys.modules]
json.dump({"value": value, "pushed": pushed, "heavy": found}, open(answer, "w"))
"""


def in_a_fresh_process(script: str, *arguments: str, **environment: str) -> None:
    """Run a script as Airflow's tasks run: with the plugins folder on the path."""
    path = os.pathsep.join((str(ROOT / "plugins"), str(ROOT)))
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def executed(trained, deployment, tmp_path_factory) -> Mapping[str, Mapping[str, Any]]:
    """All tasks of a run over three records, one after the other; what each returned and imported."""
    assert trained.state == "success"
    answer = tmp_path_factory.mktemp("imports") / "answer.json"
    found: dict[str, Any] = {}

    def execute(operator: str, **arguments: object) -> Any:
        in_a_fresh_process(TASK, str(answer), operator, json.dumps(arguments), *HEAVY)
        found[operator] = json.loads(answer.read_text())
        return found[operator]["value"]

    with deployment.collection(COLLECTION, *deployment.waiting(3)):
        (part,) = execute("SnapshotRecordsOperator")
        manifest = found["SnapshotRecordsOperator"]["pushed"]["manifest"]
        predictions = execute("ClassifyImagesOperator", images=execute("FetchImagesOperator", part=part))
        execute("AssessRunOperator", manifest=manifest, predictions=[predictions])
        assessment = found["AssessRunOperator"]["pushed"]["assessment"]
        outcomes = execute("PublishPredictionsOperator", predictions=predictions, assessment=assessment)
        execute("ReconcileRunOperator", manifest=manifest, outcomes=[outcomes])
    return found


def test_the_tasks_did_their_work(executed) -> None:
    """What is said of their imports is said of tasks that ran to their end."""
    counted = executed["ReconcileRunOperator"]["value"]
    assert {outcome: count for outcome, count in counted.items() if count} == {"predicted": 3}


@pytest.mark.parametrize("operator", ["Snapshot", "Fetch", "Assess", "Publish", "Reconcile"])
def test_a_task_that_looks_at_no_picture_imports_nothing_heavy(executed, operator) -> None:
    """Neither networks nor image decoders."""
    (found,) = (each["heavy"] for name, each in executed.items() if name.startswith(operator))
    assert found == []


def test_classifying_imports_the_onnx_runtime_and_no_torch(executed) -> None:
    """Only training needs torch, whose import takes seconds."""
    found = executed["ClassifyImagesOperator"]["heavy"]
    assert "onnxruntime" in found
    assert not {"torch", "torchvision", "matplotlib", "tensorboard"} & set(found)


# What the process that tasks are forked from imports for them


PRELOAD = """
import json, sys, threading
from mnist_airflow.preload import MODULES, preload
preload()
json.dump({
    "missing": [name for name in MODULES if name not in sys.modules],
    "heavy": [name for name in sys.argv[2:] if name in sys.modules],
    "threads": threading.active_count(),
}, open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory) -> Mapping[str, Any]:
    """What a process looks like after it has imported what tasks need."""
    answer = tmp_path_factory.mktemp("preload") / "answer.json"
    in_a_fresh_process(PRELOAD, str(answer), *HEAVY)
    return json.loads(answer.read_text())


def test_everything_that_is_named_for_preloading_can_be_imported(preloaded) -> None:
    """A module that was renamed would be left out with a warning only."""
    assert preloaded["missing"] == []


def test_preloading_imports_no_torch_and_starts_no_thread(preloaded) -> None:
    """Scheduler and workers stay small, and a thread would not survive the fork."""
    assert not {"torch", "torchvision", "onnxruntime", "matplotlib", "tensorboard"} & set(preloaded["heavy"])
    assert preloaded["threads"] == 1


def test_a_task_that_is_forked_finds_its_imports_there(tmp_path) -> None:
    """After preloading, what the operators import in their methods costs nothing."""
    script = """
import ast, importlib, inspect, sys, textwrap
from mnist_airflow.preload import preload
preload()
before = set(sys.modules)
from mnist_airflow.operators import base, records
from mnist_airflow import connections
from mnist_ops.pipeline import Pipeline
names = "snapshot", "fetch", "classify", "assess", "publish", "reconcile"
steps = [getattr(Pipeline, name) for name in names]
for source in (base, records, connections, *steps):
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(source)))):
        if isinstance(node, ast.ImportFrom) and node.module:
            importlib.import_module(node.module)
ours = {name for name in set(sys.modules) - before if name.startswith(("mnist_ops.", "airflow.providers."))}
sys.exit(f"not preloaded: {sorted(ours)}" if ours else 0)
"""
    in_a_fresh_process(script, AIRFLOW_HOME=str(tmp_path))


@pytest.mark.parametrize(
    ("command", "executor", "loaded"),
    [
        ("scheduler", "LocalExecutor", True),
        ("scheduler", "CeleryExecutor", False),
        ("triggerer", "LocalExecutor", False),
        ("dag-processor", "LocalExecutor", False),
    ],
)
def test_only_a_scheduler_whose_tasks_are_its_children_preloads(tmp_path, command, executor, loaded) -> None:
    """The plugin's listener is told that a part of Airflow starts."""
    script = """
import sys
sys.argv[:] = ["airflow", sys.argv[1]]
from airflow.listeners.listener import get_listener_manager
get_listener_manager().hook.on_starting(component=None)
print("mnist_ops.wiring" in sys.modules)
sys.exit(("mnist_ops.wiring" in sys.modules) != LOADED)
""".replace("LOADED", str(loaded))
    home = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__EXECUTOR": executor}
    in_a_fresh_process(script, command, **home)


def test_celerys_workers_preload() -> None:
    """Celery imports what its configuration names, before it forks."""
    script = """
import os, sys
from airflow.providers.celery.executors.celery_executor_utils import app
app.loader.import_default_modules()
sys.exit("mnist_ops.wiring" not in sys.modules)
"""
    configuration = {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": "mnist_airflow.celery_config.CONFIG",
        "AIRFLOW__CELERY__BROKER_URL": "redis://127.0.0.1:1/0",
    }
    in_a_fresh_process(script, **configuration)
