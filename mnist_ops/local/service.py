"""How one part of the embedded stack runs as a process, and where its program is installed."""

import os
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnist_ops.domain.errors import Permanent
from mnist_ops.local.readiness import Probe


@dataclass(frozen=True, slots=True)
class Service:
    """The process of one part.

    Attributes:
        name: of the part, and of its folder, log and pid file.
        command: the program and its arguments.
        environment: all its environment variables.
        probe: asks once whether it answers.
        start_timeout_s: seconds that it may take until it answers.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    probe: Probe
    start_timeout_s: float = 60.0


def program(name: str) -> str:
    """Return the path of a program that was installed with this Python.

    Raises:
        Permanent: it is not installed; says what to install.
    """
    path = shutil.which(name, path=sysconfig.get_path("scripts"))
    if path is None:
        raise Permanent(f'{name} is not installed here: run `make` again, or pip install "mnist-ops[stack]"')
    return path


def inherited_environment() -> dict[str, str]:
    """Return this process's environment without what would configure the parts from outside.

    Programs need PATH, HOME and the like. AIRFLOW or AWS variables of the user's shell belong to another
    Airflow and another S3, and requests between the parts must not go through a proxy.
    """
    foreign = ("AIRFLOW", "_AIRFLOW", "AWS_", "S3_", "WEED_", "PG", "MNIST_OPS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    direct = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1,localhost"]))
    # The parts import the same package as this process, installed or not.
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH")]))
    return {**kept, "NO_PROXY": direct, "no_proxy": direct, "PYTHONPATH": path}
