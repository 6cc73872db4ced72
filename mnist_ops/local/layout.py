"""The files and folders of the embedded stack, all under one folder (`.local/` by default)."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mnist_ops.domain.errors import Transient
from mnist_ops.local.secrets_file import OWNER_ONLY


@dataclass(frozen=True, slots=True)
class Layout:
    """The files and folders of one stack.

    Attributes:
        root: the folder that holds all of them; made absolute, because each part runs in its own folder.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.absolute())

    @property
    def images(self) -> Path:
        """The folder that the image server serves; the caller fills it."""
        return self.data("images")

    @property
    def state_file(self) -> Path:
        """How to reach the running stack, for the command line (mode 0600)."""
        return self.root / "stack.json"

    @property
    def credentials_file(self) -> Path:
        """The generated keys and passwords (mode 0600)."""
        return self.root / "secrets" / "credentials.json"

    @property
    def airflow_passwords_file(self) -> Path:
        """The users of Airflow's simple auth manager and their passwords (mode 0600)."""
        return self.root / "secrets" / "airflow_passwords.json"

    @property
    def airflow_passwords_shown_file(self) -> Path:
        """An empty file that exists once the password has been shown."""
        return self.root / "secrets" / "airflow_passwords.shown"

    @property
    def airflow_program(self) -> Path:
        """The `airflow` command of the stack."""
        return self.root / "bin" / "airflow"

    def data(self, part: str) -> Path:
        """Return the folder of a part's data, which is also its working directory."""
        return self.root / "data" / part

    def log(self, part: str) -> Path:
        """Return the file that a part's output goes to."""
        return self.root / "logs" / f"{part}.log"

    def pid_file(self, part: str) -> Path:
        """Return the file that holds the id of a part's process."""
        return self.root / "pids" / f"{part}.json"

    def make_folders(self, parts: tuple[str, ...]) -> None:
        """Create the missing folders of these parts."""
        for folder in ("data", "logs", "pids", "secrets", *(f"data/{part}" for part in parts)):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "secrets").chmod(0o700)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the lock that keeps other commands from starting or stopping this stack.

        Raises:
            Transient: another command holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Transient(f"another command is starting or stopping the stack in {self.root}") from None
            yield


def write_private(path: Path, text: str) -> None:
    """Write a file atomically that only its owner can read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    # Created with its mode: with a later chmod, others could read the file for a moment.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
