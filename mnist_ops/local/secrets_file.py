"""The `.env` of docker-compose.yaml: a fresh secret for every name that the file requires.

Standard library only, so that `make env` works before anything is installed.
"""

import base64
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

OWNER_ONLY = 0o600

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


def main(arguments: list[str]) -> int:
    """Write the file that the one argument names; exit code 0, 1 if it exists, 2 for bad usage."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python3 -m mnist_ops.local.secrets_file FILE\n")
        return 2
    path = Path(arguments[0])
    try:
        write(path)
    except FileExistsError:
        sys.stderr.write(f"{path} exists and was not changed: running containers may use its secrets\n")
        return 1
    sys.stdout.write(
        f"{path}: {len(SECRETS)} secrets, readable by you alone; AIRFLOW_ADMIN_PASSWORD is the UI's\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
