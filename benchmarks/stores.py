"""The embedded database and object store alone, for benchmarks that need no pictures."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.setting import prepared_adapters
from mnist_ops.adapters.mongo.connection import Mongo, mongo_answers, mongo_client
from mnist_ops.connections import read_connection
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.records import BundleRef
from mnist_ops.local import stack
from mnist_ops.local.layout import Layout
from mnist_ops.settings import Settings
from mnist_ops.wiring import Adapters
from tests.support.servers import free_ports_of_a_stack

CHAMPION = BundleRef("lenet5", 1, "s3://mnist-ops/models/none", f"sha256:{'0' * 64}")


@contextmanager
def stores() -> Iterator[Path]:
    """Bring both up and take them down again; gives the stack's folder."""
    with tempfile.TemporaryDirectory(prefix="mnist-ops-bench-") as name:
        layout = Layout(Path(name))
        try:
            ports = free_ports_of_a_stack()
            stack.up(layout, ports, mongo_answers=mongo_answers, parts=("mongo", "s3"), report_progress=print)
            yield layout.root
        finally:
            stack.down(layout)


def adapters_of(folder: Path, database: str) -> Adapters:
    """The adapters of a database of its own, with its indexes and a champion that is nowhere."""
    adapters = prepared_adapters(Settings(mongo_database=database, local_dir=folder))
    adapters.models.promote(CHAMPION, None, Promotion(datetime.now(UTC), "the benchmark", "needs one"))
    return adapters


def client_of(folder: Path) -> Mongo:
    """A client of the database."""
    return mongo_client(read_connection("mongo_default", {}, folder))


def timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """How long a call takes by a clock, in its seconds."""
    started = clock()
    call()
    return clock() - started
