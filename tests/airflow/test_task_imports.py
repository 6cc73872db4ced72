"""What each task of classify_records imports, in a process of its own, on the real servers.

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

# The operators of a run, each executed in a child of one process, as the scheduler forks its tasks: what it
# left in sys.modules, and what it returned and pushed.
TASKS = """
import datetime, json, os, sys, types
from mnist_airflow import operators
answer, heavy = sys.argv[1], sys.argv[2:]
now = datetime.datetime.now(datetime.UTC)
run = types.SimpleNamespace(
    dag_id="classify_records", run_id="imports", clear_number=0, conf={}, run_type="manual", run_after=now,
    data_interval_start=None, data_interval_end=None, logical_date=None)

def task(name, arguments):
    pushed = {}
    ti = types.SimpleNamespace(try_number=1, xcom_push=pushed.__setitem__)
    context = {"dag_run": run, "ti": ti, "dag": types.SimpleNamespace(params={})}
    value = getattr(operators, name)(task_id="task", **arguments).execute(context)
    found = [module for module in heavy if module in sys.modules]
    json.dump({"value": value, "pushed": pushed, "heavy": found}, open(answer, "w"))

executed = {}
def execute(name, **arguments):
    child = os.fork()
    if not child:
        task(name, arguments)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{name} failed")
    executed[name] = json.load(open(answer))
    return executed[name]["value"]

assert not [module for module in heavy if module in sys.modules]
(part,) = execute("SnapshotRecordsOperator")
manifest = executed["SnapshotRecordsOperator"]["pushed"]["manifest"]
predictions = execute("ClassifyImagesOperator", images=execute("FetchImagesOperator", part=part))
execute("AssessRunOperator", manifest=manifest, predictions=[predictions])
assessment = executed["AssessRunOperator"]["pushed"]["assessment"]
outcomes = execute("PublishPredictionsOperator", predictions=predictions, assessment=assessment)
execute("ReconcileRunOperator", manifest=manifest, outcomes=[outcomes])
json.dump(executed, open(answer, "w"))
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
    with deployment.collection(COLLECTION, *deployment.waiting(3)):
        in_a_fresh_process(TASKS, str(answer), *HEAVY)
    return json.loads(answer.read_text())


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
import ast, importlib, inspect, json, sys, threading
from mnist_airflow.preload import MODULES, preload
preload()
found = {
    "missing": [name for name in MODULES if name not in sys.modules],
    "heavy": [name for name in sys.argv[2:] if name in sys.modules],
    "threads": threading.active_count(),
}
before = set(sys.modules)
from mnist_airflow.operators import base, records, snapshot
from mnist_airflow import connections
for module in (base, records, snapshot, connections):
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module:
            importlib.import_module(node.module)
ours = ("mnist_ops.", "airflow.providers.")
found["imported by tasks"] = sorted(name for name in set(sys.modules) - before if name.startswith(ours))
json.dump(found, open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory) -> Mapping[str, Any]:
    """What a process looks like after it has imported what tasks need."""
    answer = tmp_path_factory.mktemp("preload") / "answer.json"
    in_a_fresh_process(PRELOAD, str(answer), *HEAVY, AIRFLOW_HOME=str(answer.parent))
    return json.loads(answer.read_text())


def test_everything_that_is_named_for_preloading_can_be_imported(preloaded) -> None:
    """A module that was renamed would be left out with a warning only."""
    assert preloaded["missing"] == []


def test_preloading_imports_no_torch_and_starts_no_thread(preloaded) -> None:
    """Scheduler and workers stay small, and a thread would not survive the fork."""
    assert not {"torch", "torchvision", "onnxruntime", "matplotlib", "tensorboard"} & set(preloaded["heavy"])
    assert preloaded["threads"] == 1


def test_a_task_that_is_forked_finds_its_imports_there(preloaded) -> None:
    """After preloading, what the operators import in their methods costs nothing."""
    assert preloaded["imported by tasks"] == []


def test_only_a_scheduler_whose_tasks_are_its_children_preloads(tmp_path) -> None:
    """The plugin's listener is told that a part of Airflow starts; here each is a child of one process."""
    script = """
import json, os, sys
from airflow.listeners.listener import get_listener_manager
wrong = []
for command, executor, loaded in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv[:] = ["airflow", command]
        os.environ["AIRFLOW__CORE__EXECUTOR"] = executor
        get_listener_manager().hook.on_starting(component=None)
        os._exit(("mnist_ops.wiring" in sys.modules) != loaded)
    if os.waitpid(child, 0)[1]:
        wrong.append((command, executor))
sys.exit(f"wrong: {wrong}" if wrong else 0)
"""
    parts = [
        ("scheduler", "LocalExecutor", True),
        ("scheduler", "CeleryExecutor", False),
        ("triggerer", "LocalExecutor", False),
        ("dag-processor", "LocalExecutor", False),
    ]
    in_a_fresh_process(script, json.dumps(parts), AIRFLOW_HOME=str(tmp_path))


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
