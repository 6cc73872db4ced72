"""What people import from `mnist_ops`."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mnist_ops
from mnist_ops.local.sample_digits import load, png

PUBLIC = [name for name in mnist_ops.__all__ if name != "__version__"]
LOADED = """
import sys
before = set(sys.modules)
import mnist_ops
print("\\n".join(name for name in set(sys.modules) - before if not name.startswith("mnist_ops")))
print("\\n".join(name for name in sys.modules if name.startswith("mnist_ops.")))
"""


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_the_object_of_its_module(name: str) -> None:
    """It is imported when it is asked for, under the same name."""
    assert getattr(mnist_ops, name) is getattr(import_module(mnist_ops._MODULES[name]), name)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_docstring_names_every_public_name(name: str) -> None:
    """It is where people look first."""
    assert mnist_ops.__doc__ is not None
    assert name in mnist_ops.__doc__


def test_the_example_of_the_docstring_classifies_a_digit(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines are run as they are written, in a folder with a bundle and an image."""
    (tmp_path / "bundle").symlink_to(bundle)
    (tmp_path / "digit.png").write_bytes(png(load("test")[0][0]))
    monkeypatch.chdir(tmp_path)
    assert mnist_ops.__doc__ is not None
    lines = mnist_ops.__doc__.split("to classify one image file:\n\n")[1].split("\n\n")[0]
    names: dict[str, object] = {"Path": Path, **{name: getattr(mnist_ops, name) for name in PUBLIC}}
    exec("\n".join(line.removeprefix("    ") for line in lines.splitlines()), names)  # noqa: S102
    probabilities = names["probabilities"]
    assert isinstance(probabilities, dict)
    assert probabilities.keys() == set(mnist_ops.DIGITS.names)


def test_importing_the_package_loads_the_standard_library_only() -> None:
    """Neither the layers below nor a library."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} <= sys.stdlib_module_names


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of every module."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mnist_ops.nonsense  # type: ignore[attr-defined]
