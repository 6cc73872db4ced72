"""What import-linter cannot say about imports, and what the lower layers may not read."""

import ast
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mnist_ops"


def modules(folder: Path) -> list[Path]:
    """Return the Python files below a folder; fail where there is none."""
    found = sorted(folder.rglob("*.py"))
    assert found, folder
    return found


def imported(file: Path) -> set[str]:
    """Return the top-level packages that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def loaded_by(*names: str) -> set[str]:
    """Return the top-level packages that a fresh process has loaded once it has imported these modules."""
    show = "print('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    program = f"import sys, {', '.join(names)}; {show}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_domain_imports_only_the_standard_library() -> None:
    """And itself, wherever in a file the import is; import-linter only knows what is forbidden by name."""
    for file in modules(PACKAGE / "domain"):
        assert imported(file) <= sys.stdlib_module_names | {"mnist_ops"}, file


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


def test_what_classifies_on_a_cpu_loads_no_torch() -> None:
    """It takes seconds and hundreds of megabytes, and inference needs none of it."""
    loaded = loaded_by(
        "mnist_ops.steps.classify",
        "mnist_ops.vision.inference.classifier",
        "mnist_ops.cli.predict",
        "mnist_ops.wiring",
    )
    assert not loaded & {"torch", "torchvision", "onnx"}


def test_what_a_dag_imports_is_light() -> None:
    """The DAG processor parses every few seconds."""
    loaded = loaded_by("mnist_airflow.windows", "mnist_airflow.operators", "mnist_airflow.assets")
    assert not loaded & {"torch", "numpy", "pyarrow", "pymongo", "boto3", "pycurl", "onnxruntime"}


def test_what_watches_the_records_is_light() -> None:
    """The triggerer imports it in its only event loop, where all other triggers wait meanwhile."""
    loaded = loaded_by(
        "mnist_airflow.triggers.records_arrived",
        "mnist_airflow.triggers.asset_tokens",
        "mnist_ops.adapters.mongo.change_stream",
        "mnist_ops.pipeline",
        "mnist_ops.steps.watch",
    )
    assert not loaded & {"torch", "numpy", "pyarrow", "boto3", "pycurl", "PIL", "onnxruntime"}


def test_the_domain_loads_nothing_else() -> None:
    """Not even through a module that it imports."""
    files = [file.relative_to(ROOT).with_suffix("") for file in modules(PACKAGE / "domain")]
    domain = [".".join(file.parts).removesuffix(".__init__") for file in files]
    loaded = loaded_by(*domain) - sys.stdlib_module_names
    site = loaded_by("sys") - sys.stdlib_module_names
    assert loaded - site == {"mnist_ops"}
