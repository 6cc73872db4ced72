"""What every test needs: none of the developer's settings, a separate Airflow home, hypothesis.

Airflow reads its configuration when it is first imported, so all of this happens at import time.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.support import session
from tests.support.distribution import ByFixtures, rank_of

ROOT = Path(__file__).parents[1]
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="mnist-ops-airflow-"))

for variable in [name for name in os.environ if name.startswith(("MNIST_OPS_", "AIRFLOW_"))]:
    del os.environ[variable]
os.environ.update(
    {
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        # Small networks gain nothing from more threads, and lose much where processes share the cores.
        "OMP_NUM_THREADS": "1",
    }
)

# A busy machine is slow, which is no fault of the code under test.
_SLOW = (HealthCheck.too_slow,)
settings.register_profile("developer", deadline=None, suppress_health_check=_SLOW)
settings.register_profile("ci", deadline=None, suppress_health_check=_SLOW, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFixtures:
    """Tests that use the same costly fixtures run in one process."""
    return ByFixtures(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest groups begin, where processes share the tests out."""
    if _is_worker(config):
        items.sort(key=lambda item: rank_of(item.nodeid))


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that all processes of the session share, in the process that starts the others."""
    if not _is_worker(config):
        session.make_folder()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what this process has made; not at exit, since forked children exit too."""
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
    if not _is_worker(config):
        _stop_servers()
        session.remove_folder()


def _stop_servers() -> None:
    """Stop the servers that all processes share; they are there if a process has left anything."""
    if any(session.folder().iterdir()):
        from tests.support.servers import stop_servers  # noqa: PLC0415 (most sessions need no client of S3)

        stop_servers()


def _is_worker(config: pytest.Config) -> bool:
    """Whether pytest-xdist has started this process."""
    return hasattr(config, "workerinput")
