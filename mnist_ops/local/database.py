"""The embedded database: SecantusDB, which speaks MongoDB's wire protocol over WiredTiger."""

from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.local.readiness import Probe, mongo_answers
from mnist_ops.local.service import Service, inherited_environment, program

NAME = "mongo"
DATABASE = "mnist"


def service(layout: Layout, ports: Ports) -> Service:
    """Describe the database's process: persistent, and safe against a power cut once it has confirmed."""
    command = (
        program("secantusd-py"),
        *("--host", HOST, "--port", str(ports.mongo)),
        *("--storage-path", str(layout.data(NAME))),
        "--sync-on-commit",
    )
    return Service(NAME, command, inherited_environment(), probe(ports))


def probe(ports: Ports) -> Probe:
    """Return the question whether the database answers `ping`."""
    return lambda: None if mongo_answers(HOST, ports.mongo) else f"an answer at {HOST}:{ports.mongo}"


def connection(ports: Ports) -> dict[str, object]:
    """Return Airflow's connection `mongo_default`."""
    return {"conn_type": "mongo", "host": HOST, "port": ports.mongo, "schema": DATABASE}
