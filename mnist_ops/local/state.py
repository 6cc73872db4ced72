"""How to reach a running stack: `up` writes it to `stack.json` for the command line and its tasks."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from mnist_ops.domain.errors import Damaged
from mnist_ops.local import airflow_server, database, image_server, object_store
from mnist_ops.local.credentials import Credentials
from mnist_ops.local.layout import Layout, write_private
from mnist_ops.local.ports import Ports


@dataclass(frozen=True, slots=True)
class Stack:
    """How to reach a stack.

    Attributes:
        ports: where its parts listen, on 127.0.0.1.
        connections: `mongo_default` and `aws_default` in Airflow's JSON format; the latter holds the S3
            endpoint and its keys.
        settings: the `MNIST_OPS_*` settings that it was started with.
        bucket: the S3 bucket that it made.
        images_url: the image server's address, without a slash at the end.
        airflow_url: the address of Airflow's UI and REST API, without a slash at the end.
        airflow_user: the name of its account.
        airflow_password: of that account.
    """

    ports: Ports
    connections: Mapping[str, Mapping[str, object]] = field(repr=False)
    settings: Mapping[str, str]
    bucket: str
    images_url: str
    airflow_url: str
    airflow_user: str
    airflow_password: str = field(repr=False)


def describe(ports: Ports, credentials: Credentials, settings: Mapping[str, str]) -> Stack:
    """Describe how to reach a stack on these ports."""
    return Stack(
        ports=ports,
        connections={
            "mongo_default": database.connection(ports),
            "aws_default": object_store.connection(ports, credentials),
        },
        settings=dict(settings),
        bucket=object_store.BUCKET,
        images_url=image_server.url(ports),
        airflow_url=airflow_server.url(ports),
        airflow_user=airflow_server.USER,
        airflow_password=credentials.airflow_password,
    )


def save(layout: Layout, stack: Stack) -> None:
    """Write `stack.json`, which only its owner can read, since it holds the keys."""
    write_private(layout.state_file, json.dumps(asdict(stack), indent=2))


def load(layout: Layout) -> Stack | None:
    """Return how to reach the stack that was started in this folder; None if there is none.

    Raises:
        Damaged: `stack.json` cannot be used.
    """
    try:
        values = json.loads(layout.state_file.read_text(encoding="utf-8"))
        return Stack(**{**values, "ports": Ports(**values["ports"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Not chained: the text of the error may hold a secret.
        raise Damaged(f"{layout.state_file} cannot be read: remove it and start the stack again") from None
