"""What all processes of a test session share: a folder, and locks."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The processes of pytest-xdist inherit this variable from the process that starts them.
_FOLDER = "TEST_SESSION_FOLDER"


def make_folder() -> None:
    """Make the folder; the process that starts the others calls it before they start."""
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="mnist-ops-tests-")


def folder() -> Path:
    """The folder that all processes of this session share."""
    return Path(os.environ[_FOLDER])


def remove_folder() -> None:
    """Remove the folder and all that is in it."""
    shutil.rmtree(folder(), ignore_errors=True)


@contextmanager
def one_process_at_a_time(name: str) -> Iterator[None]:
    """Hold the session's lock of this name."""
    with (folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
