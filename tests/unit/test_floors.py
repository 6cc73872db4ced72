"""The floors of the house: imports point down only."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mnist_ops"
CLIENTS = {"pymongo", "bson", "boto3", "botocore", "pycurl", "requests"}


def modules(folder: Path) -> list[Path]:
    """Return the Python files below a folder; there must be some."""
    found = sorted(folder.rglob("*.py"))
    assert found, folder
    return found


def imported(file: Path) -> set[str]:
    """Return the first names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def loaded_by(module: str) -> set[str]:
    """Return the first names of what is loaded once a module is imported, in a process of its own."""
    program = f"import sys, {module}; print('\\n'.join({{name.partition('.')[0] for name in sys.modules}}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_contracts_of_import_linter_hold() -> None:
    """Layers, no Airflow in the library, client libraries in adapters only."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("file", modules(PACKAGE / "domain"), ids=lambda file: file.stem)
def test_the_domain_imports_only_the_standard_library(file: Path) -> None:
    """And itself; wherever in the file the import stands."""
    assert imported(file) <= sys.stdlib_module_names | {"mnist_ops"}


@pytest.mark.parametrize("folder", ["domain", "vision", "steps", "local"])
def test_only_adapters_import_client_libraries(folder: str) -> None:
    """What speaks to a server is behind a port."""
    for file in modules(PACKAGE / folder):
        assert not imported(file) & CLIENTS, file


def test_the_library_never_imports_airflow() -> None:
    """It runs where Airflow is not installed."""
    for file in modules(PACKAGE):
        assert "airflow" not in imported(file), file


def test_nothing_below_the_edge_reads_the_environment() -> None:
    """Configuration enters once: settings, the command line and the embedded stack's own processes."""
    for folder in ("domain", "vision", "steps", "adapters"):
        for file in modules(PACKAGE / folder):
            text = file.read_text(encoding="utf-8")
            assert "os.environ" not in text, file
            assert "getenv" not in text, file


def test_nothing_in_domain_or_steps_reads_the_wall_clock() -> None:
    """Times are arguments."""
    for folder in ("domain", "steps"):
        for file in modules(PACKAGE / folder):
            text = file.read_text(encoding="utf-8")
            for call in ("datetime.now(", "utcnow(", "time.time(", "sleep("):
                assert call not in text, (file, call)


@pytest.mark.parametrize(
    "module",
    [
        "mnist_ops.steps.classify",
        "mnist_ops.vision.inference.classifier",
        "mnist_ops.cli.predict",
        "mnist_ops.wiring",
    ],
)
def test_what_classifies_on_a_cpu_loads_no_torch(module: str) -> None:
    """It takes seconds and hundreds of megabytes, and nothing of it is needed."""
    assert not loaded_by(module) & {"torch", "torchvision", "onnx"}


@pytest.mark.parametrize(
    "module", ["mnist_airflow.windows", "mnist_airflow.operators", "mnist_airflow.assets"]
)
def test_what_a_dag_imports_is_light(module: str) -> None:
    """The DAG processor parses every few seconds."""
    assert not loaded_by(module) & {"torch", "numpy", "pyarrow", "pymongo", "boto3", "pycurl", "onnxruntime"}


def test_the_domain_loads_nothing_else() -> None:
    """Not even by way of something it imports."""
    strangers = loaded_by("mnist_ops.domain.manifest, mnist_ops.domain.ports") - sys.stdlib_module_names
    site = loaded_by("sys") - sys.stdlib_module_names
    assert strangers - site == {"mnist_ops"}
