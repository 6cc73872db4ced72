"""The whole embedded stack with a real Airflow, started once a session on free ports."""

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mnist_ops.adapters.airflow_rest import AirflowRest
from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.local import stack
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from tests.conftest import ROOT
from tests.e2e.deployment import CLASSIFY, TRAIN, Deployment, Run
from tests.e2e.task_failures import TaskFailures
from tests.e2e.website import Website, midnight_before
from tests.support import session
from tests.support.servers import free_ports_of_a_stack

# What the whole course takes on a busy machine; it must not meet midnight, when the schedules are due.
LONGEST_COURSE = timedelta(minutes=15)

# How long after a Sunday's midnight the run of `train_lenet` that was due then still starts.
LATE_TRAINING = timedelta(minutes=10)

FAILURES = pytest.StashKey[TaskFailures]()


def quiet_from(now: datetime) -> datetime:
    """The moment from which on no schedule is due for the whole course: now, or one after midnight."""
    midnight = midnight_before(now + LONGEST_COURSE)
    is_sunday = midnight.isoweekday() == 7
    return max(now, midnight + timedelta(seconds=1) + (LATE_TRAINING if is_sunday else timedelta(0)))


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
def dags(layout) -> Path:
    """The project's DAGs, and one of somebody else's that waits for their assets."""
    folder = layout.root / "dag-files"
    for source in (ROOT / "dags", ROOT / "tests" / "e2e" / "dags"):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session")
def running(layout, ports, dags) -> Iterator[stack.Stack]:
    """The stack, running; no run of a schedule falls due while it does."""
    now = datetime.now(UTC)
    time.sleep((quiet_from(now) - now).total_seconds())
    settings = {
        "MNIST_OPS_ALLOWED_HOSTS": f"{HOST}:{ports.images}",
        "MNIST_OPS_MINIMUM_ACCURACY": "0.5",
        # On a few dozen test digits chance alone makes calibration errors over the default limit.
        "MNIST_OPS_GATE_MAXIMUM_ECE": "0.5",
        # So few that a run has several parts.
        "MNIST_OPS_RECORDS_PER_PART": "80",
        "MNIST_OPS_THREADS": "1",
        "MNIST_OPS_TRAINING_DIR": str(layout.root / "training"),
        # The tests start every run themselves, and look at what each of them took.
        "MNIST_OPS_WATCH": "false",
    }
    # Airflow makes a password for vera and adds it to its file.
    users = {"CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,vera:viewer"}
    project = Project(dags, ROOT / "plugins", settings, users)
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


@pytest.fixture(scope="session")
def unpaused(deployment: Deployment) -> Run:
    """Both DAGs are unpaused on empty collections; the run of `classify_records` that this starts."""
    for dag_id in (CLASSIFY, TRAIN):
        deployment.airflow.unpause(dag_id)
    return deployment.finished(deployment.first_run(CLASSIFY))


@pytest.fixture(scope="session")
def champion(deployment: Deployment, website: Website, unpaused: Run) -> str:
    """A released model: of the tests before, or trained by a run of its own; its digest."""
    assert unpaused.state == "success"
    models, name = deployment.adapters.models, deployment.adapters.settings.model_name
    if models.champion(name) is None:
        deployment.adapters.records.insert(*website.labelled())
        run_id = deployment.airflow.trigger(TRAIN, {"epochs": 3, "batch_size": 16})
        assert deployment.finished(run_id, TRAIN).state == "success"
    bundle = models.champion(name)
    assert bundle is not None
    return bundle.digest


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
