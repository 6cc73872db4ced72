"""The servers behind the ports, started once a test session, for all its processes.

They are the embedded stack's own: SecantusDB, SeaweedFS and the image server, on free ports of 127.0.0.1.
Tests share them, each with databases, buckets or key prefixes of its own.
"""

import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.adapters.s3.connection import CLIENT_CONFIG
from mnist_ops.local import stack
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, S3_INTERNAL_PORTS, Ports
from tests.support import session

ROOT = Path(__file__).parents[2]
PARTS = ("mongo", "s3", "images")


def running_servers() -> tuple[stack.Stack, Layout]:
    """Return the session's servers and their folder; the first process that asks starts them."""
    layout = _layout()
    with session.one_process_at_a_time("servers"):
        if not layout.state_file.exists():
            # By another process, since they outlive this one.
            subprocess.run([sys.executable, "-m", "tests.support.servers"], cwd=ROOT, check=True)
    running = stack.load(layout)
    assert running is not None
    return running, layout


def _start_servers() -> None:
    stack.up(_layout(), free_ports_of_a_stack(), mongo_answers=mongo_answers, parts=PARTS)


def stop_servers() -> None:
    """Stop the session's servers, if any test has started them."""
    if _layout().state_file.exists():
        stack.down(_layout())


def free_ports_of_a_stack() -> Ports:
    """Free ports for every part of an embedded stack, one after the other."""
    first = first_free_port(4 + S3_INTERNAL_PORTS)
    return Ports(mongo=first, s3=first + 1, images=first + 2, airflow=first + 3, s3_internal=first + 4)


def s3_client(connection: Mapping[str, Any], **options: Any) -> Any:
    """A client for a connection of type aws.

    Args:
        connection: as Airflow stores it.
        options: `endpoint_url`, `key`, `secret` or `config` replace what the connection says.
    """
    given = {
        "endpoint_url": connection["extra"]["endpoint_url"],
        "key": connection["login"],
        "secret": connection["password"],
        "config": Config(),
    } | options
    path_style = Config(signature_version="s3v4", s3={"addressing_style": "path"}).merge(CLIENT_CONFIG)
    return boto3.client(
        "s3",
        endpoint_url=given["endpoint_url"],
        aws_access_key_id=given["key"],
        aws_secret_access_key=given["secret"],
        region_name="us-east-1",
        config=path_style.merge(given["config"]),
    )


def _layout() -> Layout:
    return Layout(session.folder() / "stack")


def first_free_port(count: int) -> int:
    """The first of `count` consecutive free ports, below those that the kernel gives to clients."""
    while True:
        first = 10_000 + secrets.randbelow(20_000)
        if all(_is_free(first + offset) for offset in range(count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    _start_servers()
