"""The `.env` of docker-compose.yaml: a fresh secret for every name that it requires, and no misspelt name.

Standard library only, so that `make env` works before anything is installed.
"""

import base64
import difflib
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

OWNER_ONLY = 0o600

_ASSIGNED = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=", re.MULTILINE)
# `${NAME…}`, or a variable of a container that has no value in the file: `NAME:`.
_READ = re.compile(r"\$\{(\w+)|^ +([A-Z][A-Z0-9_]*): *$", re.MULTILINE)
_OF_COMPOSE_ITSELF = "COMPOSE_"

# Hexadecimal where the format is free: the values are used without quotes in .env, URLs, JSON and commands.
SECRETS: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "POSTGRES_PASSWORD": lambda: secrets.token_hex(32),
        "REDIS_PASSWORD": lambda: secrets.token_hex(32),
        "MONGO_ROOT_PASSWORD": lambda: secrets.token_hex(32),
        "MONGO_APP_PASSWORD": lambda: secrets.token_hex(32),
        # A key file of MongoDB holds 6 to 1024 base64 characters; hexadecimal digits are among those.
        "MONGO_REPLICA_KEY": lambda: secrets.token_hex(128),
        "S3_ACCESS_KEY": lambda: secrets.token_hex(10),
        "S3_SECRET_KEY": lambda: secrets.token_hex(32),
        # Fernet: 32 bytes, base64 for URLs, with its padding.
        "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii"),
        # HS512 needs a key of at least 64 bytes.
        "AIRFLOW_JWT_SECRET": lambda: secrets.token_hex(64),
        "AIRFLOW_API_SECRET_KEY": lambda: secrets.token_hex(32),
        "AIRFLOW_ADMIN_PASSWORD": lambda: secrets.token_hex(16),
    }
)


def render() -> str:
    """Return the text of a `.env` file: one `NAME=value` a line, every value random."""
    lines = [f"{name}={generate()}" for name, generate in SECRETS.items()]
    return "\n".join(["# Made by `make env` for docker-compose.yaml. Keep it out of git.", *lines, ""])


def write(path: Path) -> None:
    """Write fresh secrets to `path`, which only its owner can read (mode 0600).

    Raises:
        FileExistsError: the file exists; it is not changed, because its secrets may be in use.
    """
    # O_EXCL fails where a file or link exists; the file is created with its mode.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(render())


def warnings(text: str, compose: str) -> list[str]:
    """A line for each name of a `.env` file that no container gets, with the nearest one that there is.

    Args:
        text: of the `.env` file.
        compose: of docker-compose.yaml.
    """
    read = {value or key for value, key in _READ.findall(compose)}
    names = sorted(
        {name for name in _ASSIGNED.findall(text) if not name.startswith(_OF_COMPOSE_ITSELF)} - read
    )
    return [_warning(name, read) for name in names]


def _warning(name: str, read: set[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(read), n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"docker-compose.yaml does not read {name}, which has no effect{hint}"


def main(arguments: list[str]) -> int:
    """Write the file that the one argument names; exit code 0, 1 if it exists, 2 for bad usage.

    The names in a file that exists are held against the docker-compose.yaml beside it.
    """
    if len(arguments) != 1:
        sys.stderr.write("usage: python3 -m mnist_ops.local.secrets_file FILE\n")
        return 2
    path = Path(arguments[0])
    try:
        write(path)
    except FileExistsError:
        sys.stderr.write(f"{path} exists and was not changed: running containers may use its secrets\n")
        compose = path.with_name("docker-compose.yaml")
        if compose.is_file():
            for warning in warnings(path.read_text("utf-8"), compose.read_text("utf-8")):
                sys.stderr.write(f"{path}: {warning}\n")
        return 1
    sys.stdout.write(
        f"{path}: {len(SECRETS)} secrets, readable by you alone; AIRFLOW_ADMIN_PASSWORD is the UI's\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
