"""A command whose extra is not installed names it in one line, before it does anything."""

import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

from mnist_ops.cli import main
from mnist_ops.cli._support import extras
from mnist_ops.cli._support.extras import MODULES, require_extras
from mnist_ops.domain.errors import Permanent

ROOT = Path(__file__).parents[3]
TRAIN = [
    ("runs", "train"),
    ("steps", "train", "--dataset", "s3://bucket/dataset.json"),
    ("steps", "dataset-report", "s3://bucket/dataset.json"),
    ("steps", "evaluate", "s3://bucket/training.json"),
    ("steps", "release", "s3://bucket/evaluation.json"),
    ("experiments", "sweep", "s3://bucket/dataset.json"),
    ("models", "test", "s3://bucket/training.json"),
    ("models", "release", "s3://bucket/training.json"),
    ("experiments", "tensorboard"),
]
STACK = [("stack", "up"), ("stack", "down"), ("stack", "status")]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which no extra is installed."""
    hidden = {module for modules in MODULES.values() for module in modules}
    monkeypatch.setattr(
        extras, "find_spec", lambda name: None if name in hidden else importlib.util.find_spec(name)
    )


def error_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command that fails for good prints; it prints nothing else."""
    monkeypatch.setattr(sys, "argv", ["mnist-ops", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    output, errors = capsys.readouterr()
    assert (exited.value.code, output) == (3, "")
    return errors


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        *((arguments, "train") for arguments in TRAIN),
        *((arguments, "stack") for arguments in STACK),
        (("serve",), "serving"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_a_command_without_its_extra_names_it_in_one_line(
    arguments: tuple[str, ...],
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the command as it was typed, and the line that installs the extra."""
    command = " ".join(arguments[:2])
    assert error_of(monkeypatch, capsys, *arguments) == (
        f'error: mnist-ops {command} needs the extra "{extra}": pip install "mnist-ops[{extra}]"\n'
    )


@pytest.mark.usefixtures("bare")
def test_the_demo_names_both_of_its_extras(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs the stack and trains a model."""
    assert error_of(monkeypatch, capsys, "demo") == (
        'error: mnist-ops demo needs the extras "stack" and "train": pip install "mnist-ops[stack,train]"\n'
    )


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_that_is_installed_is_found(extra: str) -> None:
    """All of them are, where the tests run."""
    require_extras("anything", extra)


def test_one_missing_module_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an extra would fail in the middle of the command."""
    monkeypatch.setattr(
        extras, "find_spec", lambda name: None if name == "tensorboard" else importlib.util.find_spec(name)
    )
    with pytest.raises(Permanent, match='needs the extra "train"'):
        require_extras("steps train", "train")


def test_the_extras_are_those_of_the_package() -> None:
    """A command names only extras that pip can install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert MODULES.keys() <= project["optional-dependencies"].keys()
