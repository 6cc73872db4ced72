"""The whole embedded stack with a real Airflow, started once a session on free ports."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.adapters.airflow_rest import AirflowRest
from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.local import stack
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from tests.conftest import ROOT
from tests.e2e.deployment import Deployment
from tests.e2e.task_failures import TaskFailures
from tests.e2e.website import Website, midnight_before
from tests.support import session
from tests.support.servers import free_ports_of_a_stack

# What the whole course takes on a busy machine; it must not meet midnight, when the schedules are due.
LONGEST_COURSE = timedelta(minutes=10)

FAILURES = pytest.StashKey[TaskFailures]()


@pytest.fixture(scope="session")
def ports() -> Ports:
    """Free ports, one after the other."""
    return free_ports_of_a_stack()


@pytest.fixture(scope="session")
def layout() -> Layout:
    """The folder of the stack, with the images that the website refers to.

    It is not below pytest's own folder: as root, PostgreSQL runs as another user, and every pytest that
    starts on this machine closes that folder to other users.
    """
    layout = Layout(session.folder() / "end-to-end")
    layout.images.mkdir(parents=True)
    return layout


@pytest.fixture(scope="session")
def running(layout, ports) -> Iterator[stack.Stack]:
    """The stack, running; no run of a schedule falls due while it does."""
    now = datetime.now(UTC)
    left = midnight_before(now) + timedelta(days=1) - now
    if left < LONGEST_COURSE:
        time.sleep(left.total_seconds() + 1)
    settings = {
        "MNIST_OPS_ALLOWED_HOSTS": f"{HOST}:{ports.images}",
        "MNIST_OPS_MINIMUM_ACCURACY": "0.5",
        # On a few dozen test digits chance alone makes calibration errors over the default limit.
        "MNIST_OPS_GATE_MAXIMUM_ECE": "0.5",
        # So few that a run has several parts.
        "MNIST_OPS_RECORDS_PER_PART": "80",
        "MNIST_OPS_THREADS": "1",
        "MNIST_OPS_TRAINING_DIR": str(layout.root / "training"),
    }
    project = Project(ROOT / "dags", ROOT / "plugins", settings)
    try:
        yield stack.up(layout, ports, mongo_answers=mongo_answers, project=project)
    finally:
        stack.down(layout)


@pytest.fixture(scope="session")
def deployment(running, layout, request) -> Iterator[Deployment]:
    """The running stack with its bucket and indexes, and no record yet."""
    airflow = AirflowRest(running.airflow_url, running.airflow_user, running.airflow_password)
    request.config.stash[FAILURES] = TaskFailures(airflow)
    with Deployment.of(layout, airflow) as deployment:
        deployment.adapters.objects.ensure_bucket()
        deployment.adapters.records.ensure_indexes()
        yield deployment
    del request.config.stash[FAILURES]


@pytest.fixture(scope="session")
def website(running, layout) -> Website:
    """Where records and images come from."""
    return Website(running.images_url, layout.images, datetime.now(UTC))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Name the tasks that did not succeed, with the ends of their logs, in the report of a failed test."""
    report = yield
    failures = item.config.stash.get(FAILURES, None)
    if report.failed and failures is not None:
        try:
            report.sections.append(("tasks of Airflow that did not succeed", failures.told()))
        except (Permanent, Transient) as error:
            report.sections.append(("Airflow cannot be asked about its tasks", str(error)))
    return report
