"""The embedded database: SecantusDB, which speaks MongoDB's wire protocol over WiredTiger."""

from collections.abc import Callable

from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.local.readiness import Probe
from mnist_ops.local.service import Service, inherited_environment, program

NAME = "mongo"
DATABASE = "mnist"

# Whether a MongoDB server at a host and port answers. An argument, since only adapters import a client.
MongoAnswers = Callable[[str, int], bool]


def service(layout: Layout, ports: Ports, answers: MongoAnswers) -> Service:
    """Describe the database's process. It is persistent: a confirmed write survives a power cut."""
    command = (
        program("secantusd-py"),
        *("--host", HOST, "--port", str(ports.mongo)),
        *("--storage-path", str(layout.data(NAME))),
        "--sync-on-commit",
    )
    return Service(NAME, command, inherited_environment(), probe(ports, answers))


def probe(ports: Ports, answers: MongoAnswers) -> Probe:
    """Return a probe of whether the database answers."""
    return lambda: None if answers(HOST, ports.mongo) else f"an answer at {HOST}:{ports.mongo}"


def connection(ports: Ports) -> dict[str, object]:
    """Return Airflow's connection `mongo_default`."""
    return {"conn_type": "mongo", "host": HOST, "port": ports.mongo, "schema": DATABASE}
