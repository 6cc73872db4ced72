"""The wheel as people install it: without extras, and beside Airflow."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_ops.local.sample_digits import load, png
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.metrics import evaluate
from mnist_ops.vision.inference.abstention import fit_abstention
from mnist_ops.vision.inference.classifier import load_classifier
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.release.export import Provenance, write_bundle
from mnist_ops.vision.training.trainer import train

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
# What uv prints when it cannot reach the package registry.
OFFLINE = ("dns error", "error sending request", "failed to fetch", "connection refused", "network")
EXTRAS = ("torch", "airflow", "psutil", "fastapi", "mlflow")

Command = Callable[..., subprocess.CompletedProcess[str]]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without what would lead to the checkout or to a deployment."""
    foreign = ("AIRFLOW", "MNIST_OPS_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | variables


def uv(*arguments: object) -> None:
    """Run uv; skip the test where it needs a registry and there is none."""
    done = subprocess.run(
        [SCRIPTS / "uv", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode and any(words in done.stderr.lower() for words in OFFLINE):
        pytest.skip(f"the package registry cannot be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of this checkout with the tools that are installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    uv(
        "build",
        "--wheel",
        "--no-build-isolation",
        "--offline",
        "--python",
        sys.executable,
        "-o",
        folder,
        ROOT,
    )
    (found,) = folder.glob("mnist_ops-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel and no extra; the versions are those of the lock."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    uv("venv", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    uv("pip", "install", "--python", python, "--constraint", ROOT / "requirements.lock", wheel)
    return folder


@pytest.fixture
def mnist_ops(installed: Path, tmp_path: Path) -> Command:
    """Runs the installed command line in an empty folder."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "bin" / "mnist-ops", *map(str, arguments)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a model that was hardly trained: any will do."""
    images, labels = load("train")
    training, validation = Examples(images[:500], labels[:500]), Examples(images[500:700], labels[500:700])
    model = train(training, validation, TrainingConfig(epochs=1), torch.device("cpu"))
    logits = trained_logits(model, validation.images)
    provenance = Provenance(
        "sha256:" + "a" * 64, "sha256:" + "b" * 64, fit_abstention(training, validation.images, logits)
    )
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    metrics = {"validation": evaluate(softmax(logits, 1.0), validation.labels)}
    write_bundle(folder, model, validation.images, metrics, provenance)
    return folder


def test_the_environment_has_none_of_the_extras(installed: Path) -> None:
    """Otherwise the tests below would show nothing."""
    (packages,) = installed.glob("lib/python*/site-packages")
    assert [name for name in EXTRAS if (packages / name).exists()] == []


@pytest.mark.parametrize("group", ["", "steps", "stack"])
def test_help_needs_no_extra(group: str, mnist_ops: Command) -> None:
    """Of the command line, and of groups that extras serve."""
    done = mnist_ops(*group.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert "Commands" in done.stdout


def test_predict_needs_no_extra(mnist_ops: Command, bundle: Path, tmp_path: Path) -> None:
    """ONNX Runtime classifies; torch trained the model elsewhere."""
    digits = load("test")[0][:1]
    (tmp_path / "digit.png").write_bytes(png(digits[0]))
    done = mnist_ops("predict", "--json", "--bundle", bundle, "digit.png")
    assert done.returncode == 0, done.stderr
    probabilities = [*json.loads(done.stdout)["probabilities"].values()]
    assert probabilities == pytest.approx(load_classifier(bundle).probabilities(digits)[0], abs=1e-6)


def test_a_step_needs_no_extra(mnist_ops: Command) -> None:
    """It needs a connection to S3 or MongoDB first, and there is none here."""
    done = mnist_ops("steps", "fetch", "s3://bucket/manifest.json#0")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("error: no connection ")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("stack up", "stack"),
        ("experiments sweep s3://bucket/x.json", "train"),
        ("experiments tensorboard", "train"),
    ],
)
def test_a_command_that_needs_an_extra_names_it_in_one_line(
    command: str, extra: str, mnist_ops: Command
) -> None:
    """And exits as for every error that no retry helps."""
    done = mnist_ops(*command.split())
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith(f'needs the extra "{extra}": pip install "mnist-ops[{extra}]"\n')
    assert len(done.stderr.splitlines()) == 1


IN_AIRFLOW = """
import json, sys
from airflow.providers_manager import ProvidersManager
import mnist_airflow.operators, mnist_airflow.operators.instances, mnist_airflow.windows

provider = ProvidersManager().providers["mnist-ops"]
print(json.dumps({
    "file": mnist_airflow.__file__,
    "operator": mnist_airflow.operators.ClassifyImagesOperator.__name__,
    "name": provider.data["name"],
    "version": provider.version,
}))
"""


@pytest.fixture
def beside_airflow(wheel: Path, tmp_path: Path) -> Path:
    """A folder with the wheel alone; the Airflow of the tests' environment is beside it on the path.

    An environment of its own with Airflow would take minutes to install.
    """
    folder = tmp_path / "wheel"
    uv("pip", "install", "--no-deps", "--python", sys.executable, "--target", folder, wheel)
    return folder


def test_airflow_finds_the_operators_of_the_wheel(beside_airflow: Path, tmp_path: Path) -> None:
    """Airflow's own discovery reads the entry point and validates it against Airflow's schema."""
    done = subprocess.run(
        [sys.executable, "-c", IN_AIRFLOW],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(beside_airflow), AIRFLOW_HOME=str(tmp_path / "airflow")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["file"]).is_relative_to(beside_airflow)
    assert found["operator"] == "ClassifyImagesOperator"
    assert (found["name"], found["version"]) == ("MNIST Ops", "0.1.0")
