"""Airflow with its metadata in SQLite, and the real servers that its tasks work on.

The servers are the session's (`tests/support/servers.py`); each process has a database, a bucket and a folder
of images of its own. Airflow's home and its folders come from `tests/conftest.py`. The connections hold
secrets that are really used, so that a test can look for them wherever they must not be.
"""

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pymongo import MongoClient

from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.records import FieldNames
from mnist_ops.local import sample_digits
from mnist_ops.local.demo_records import EXPECTED_FAILURES

# What tasks log is looked at; Airflow reads this when it is first imported.
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "INFO"

from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.models.dagrun import DagRun, DagRunNote
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.xcom import XComModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select

from mnist_airflow.run_notes import write_note
from tests.support.environment import environment
from tests.support.servers import running_servers, s3_client

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"
LABELLED = 400
MONGO_USER = "mnist_ops_canary_user"

# Airflow's own use of what its dependencies have deprecated; none of it is in our hands.
_AIRFLOWS_OWN = ("ignore:GitWildMatchPattern:DeprecationWarning",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let Airflow's own deprecation warnings pass, in this folder only."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for line in _AIRFLOWS_OWN:
                item.add_marker(pytest.mark.filterwarnings(line))


# The servers


@dataclass(frozen=True)
class Deployment:
    """Where the pipeline of these tests works.

    Attributes:
        name: of the database and of the bucket.
        mongo: a client of SecantusDB.
        s3: a client of SeaweedFS.
        images: a folder that the image server serves.
        images_url: its address.
        secrets: what must never be seen: the password of MongoDB and the secret key of S3.
    """

    name: str
    mongo: Any
    s3: Any
    images: Path
    images_url: str
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def database(self) -> Any:
        """The records' database, with the pipeline's own collections."""
        return self.mongo[self.name]

    @contextmanager
    def collection(self, name: str, *records: Mapping[str, object], **settings: str) -> Iterator[Any]:
        """Let the DAGs work on a collection of these records; `settings` without `MNIST_OPS_`, lower case."""
        found = self.database[name]
        MongoRecords(found, FieldNames()).ensure_indexes()
        if records:
            found.insert_many(records)
        variables = {f"MNIST_OPS_{key.upper()}": value for key, value in settings.items()}
        with environment(MNIST_OPS_MONGO_COLLECTION=name, **variables):
            yield found

    def object_keys(self, prefix: str = "") -> set[str]:
        """The keys of all objects below a prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def read(self, uri_or_key: str) -> bytes:
        """The bytes of an object."""
        key = uri_or_key.removeprefix(f"s3://{self.name}/")
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()

    def labelled(self, count: int) -> list[dict[str, object]]:
        """Human-labelled records of the first digits."""
        _, labels = sample_digits.load("train")
        return [
            self._record(f"labelled-{number}", f"train/{number}.png")
            | {"label": DIGITS.name(int(labels[number]))}
            for number in range(count)
        ]

    def waiting(self, count: int) -> list[dict[str, object]]:
        """Records of the first digits that wait for a label."""
        return [self._record(f"waiting-{number}", f"train/{number}.png") for number in range(count)]

    def failing(self, copies: int = 1) -> list[dict[str, object]]:
        """Records that must fail, `copies` of each kind; their `_id` ends in the reason."""
        records = []
        for url, reason in EXPECTED_FAILURES.items():
            for copy in range(copies):
                record = self._record(f"failing-{copy}-{reason}", "")
                records.append(record | {"image_url": url.format(images=self.images_url) if url else None})
        return records

    def _record(self, record_id: str, path: str) -> dict[str, object]:
        created_at = datetime.now(UTC) - timedelta(days=1)
        return {"_id": record_id, "created_at": created_at, "image_url": f"{self.images_url}/{path}"}


@pytest.fixture(scope="session")
def deployment(tmp_path_factory) -> Iterator[Deployment]:
    """A deployment of this process's own, and the environment that leads Airflow's tasks to it."""
    running, layout = running_servers()
    name = f"airflow-{secrets.token_hex(4)}"
    images = layout.images / name
    _write_images(images)
    password = f"canary-{secrets.token_hex(16)}"
    aws: Mapping[str, Any] = running.connections["aws_default"]
    mongo_connection = dict(running.connections["mongo_default"]) | {
        "login": MONGO_USER,
        "password": password,
        "schema": name,
    }
    with (
        MongoClient("127.0.0.1", running.ports.mongo) as mongo,
        closing(s3_client(aws)) as s3,
        environment(
            AIRFLOW_CONN_MONGO_DEFAULT=json.dumps(mongo_connection),
            AIRFLOW_CONN_AWS_DEFAULT=json.dumps(aws),
            MNIST_OPS_MONGO_DATABASE=name,
            MNIST_OPS_S3_BUCKET=name,
            MNIST_OPS_ALLOWED_HOSTS=f"127.0.0.1:{running.ports.images}",
            # A few hundred digits and two epochs make no good model, and need not.
            MNIST_OPS_MINIMUM_ACCURACY="0.1",
            MNIST_OPS_GATE_MAXIMUM_ECE="1",
            MNIST_OPS_TRAINING_DIR=str(tmp_path_factory.mktemp("training")),
            MNIST_OPS_THREADS="1",
        ),
    ):
        s3.create_bucket(Bucket=name)
        mongo[name].command("createUser", MONGO_USER, pwd=password, roles=["readWrite"])
        images_url = f"{running.images_url}/{name}"
        yield Deployment(name, mongo, s3, images, images_url, (password, aws["password"]))


def _write_images(folder: Path) -> None:
    """The first digits of the sample as PNG files, and some files that are no usable picture."""
    images, _ = sample_digits.load("train")
    for name in ("train", "broken"):
        (folder / name).mkdir(parents=True)
    for number in range(LABELLED):
        (folder / "train" / f"{number}.png").write_bytes(sample_digits.png(images[number]))
    (folder / "broken" / "text.png").write_text("This is no picture.\n")
    (folder / "broken" / "truncated.png").write_bytes(sample_digits.png(images[0])[:100])
    Image.new("L", (8_000, 5_000)).save(folder / "broken" / "bomb.png")


# Airflow


@pytest.fixture(scope="session")
def airflow(deployment: Deployment) -> Deployment:
    """A deployment beside which Airflow's metadata database is made, so that DAGs can run on it."""
    initdb()
    return deployment


@pytest.fixture(scope="session")
def dags() -> Mapping[str, Any]:
    """The project's DAGs by id."""
    bag = DagBag(dag_folder=str(DAGS))
    assert bag.import_errors == {}
    return bag.dags


@dataclass(frozen=True)
class Run:
    """What is to be seen of a finished DAG run.

    Attributes:
        state: of the run.
        run_id: of the run.
        tasks: the state of every task instance, by task; a list for mapped ones, in order.
        tries: how often it was tried, likewise.
        map_names: what the UI shows in place of the number of a mapped task's instances, in order.
        xcoms: what the tasks pushed, by task and key; a list for mapped ones, in order.
        rendered: the rendered template fields as Airflow keeps them, one text a task instance.
        log: everything that was written to the outputs meanwhile, task logs included.
        asset_events: the names of the assets that the run updated, each with the event's extra.
        note: of the run; None if it has none.
    """

    state: str
    run_id: str
    tasks: Mapping[str, Any]
    tries: Mapping[str, Any]
    map_names: Mapping[str, Any]
    xcoms: Mapping[tuple[str, str], Any]
    rendered: tuple[str, ...] = field(repr=False)
    log: str = field(repr=False)
    asset_events: Mapping[str, Mapping[str, Any]]
    note: str | None


@contextmanager
def everything_written() -> Iterator[list[str]]:
    """Collect what this process and its children write to their outputs; the text is there afterwards."""
    text: list[str] = []
    # While pytest captures, sys.stdout has a descriptor of its own, which Airflow's loggers hold on to.
    outputs = sorted({1, 2, sys.stdout.fileno(), sys.stderr.fileno()})
    with tempfile.TemporaryFile() as file:
        before = [os.dup(output) for output in outputs]
        for output in outputs:
            os.dup2(file.fileno(), output)
        try:
            yield text
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for output, kept in zip(outputs, before, strict=True):
                os.dup2(kept, output)
                os.close(kept)
            file.seek(0)
            text.append(file.read().decode(errors="replace"))
            sys.stdout.write(text[0])  # for the report of a test that fails


def run_of(dag: Any, conf: Mapping[str, object], logical_date: datetime | None = None) -> Run:
    """Run a DAG by hand, and look at what it leaves."""
    with everything_written() as written:
        dag_run = dag.test(logical_date=logical_date, run_conf=dict(conf))
    with create_session() as session:
        instances = [
            (instance.task_id, instance.map_index, str(instance.state), instance.try_number)
            for instance in dag_run.get_task_instances(session=session)
        ]
        map_names = [
            (instance.task_id, instance.map_index, instance.rendered_map_index)
            for instance in dag_run.get_task_instances(session=session)
        ]
        of_run = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id}
        pushed = [
            ((row.task_id, row.key), row.map_index, XComModel.deserialize_value(row))
            for row in session.scalars(select(XComModel).filter_by(**of_run))
        ]
        rendered = tuple(
            json.dumps(row.rendered_fields)
            for row in session.scalars(select(RenderedTaskInstanceFields).filter_by(**of_run))
        )
        of_source = {"source_dag_id": dag_run.dag_id, "source_run_id": dag_run.run_id}
        asset_events = {
            event.asset.name: event.extra
            for event in session.scalars(select(AssetEvent).filter_by(**of_source))
        }
        # `dag.test` detaches the run from its session, and only from that the plugin's listener may write.
        write_note(session, session.get_one(DagRun, dag_run.id))
        note = session.scalar(select(DagRunNote.content).filter_by(dag_run_id=dag_run.id))
    return Run(
        state=str(dag_run.state),
        run_id=dag_run.run_id,
        tasks=_by_map_index([(task_id, index, state) for task_id, index, state, _ in instances]),
        tries=_by_map_index([(task_id, index, tries) for task_id, index, _, tries in instances]),
        map_names=_by_map_index(map_names),
        xcoms=_by_map_index(pushed),
        rendered=rendered,
        log="".join(written),
        asset_events=asset_events,
        note=note,
    )


def _by_map_index(found: list[tuple[Any, int, Any]]) -> dict[Any, Any]:
    """One value for what is not mapped, a list in order for what is."""
    values: dict[Any, Any] = {}
    for key, map_index, value in sorted(found, key=lambda entry: entry[1]):
        if map_index < 0:
            values[key] = value
        else:
            values.setdefault(key, []).append(value)
    return values


@pytest.fixture(scope="session")
def run_any(request) -> Callable[..., Run]:
    """Runs any DAG by hand: `run_any(dag, conf, logical_date)`."""
    request.getfixturevalue("airflow")
    return run_of


@pytest.fixture(scope="session")
def run_dag(run_any) -> Callable[..., Run]:
    """Runs one of the project's DAGs by hand, on the real servers; keyword arguments are its params."""

    def run(dag_id: str, logical_date: datetime | None = None, **conf: object) -> Run:
        # Parsed for each run: `dag.test` leaves the params of one run in the DAG.
        dag = DagBag(dag_folder=str(DAGS)).dags[dag_id]
        for task in dag.tasks:
            task.retry_delay = timedelta(0)  # which Airflow makes a second
        return run_any(dag, conf, logical_date)

    return run


@pytest.fixture(scope="session")
def trained(deployment, run_dag) -> Run:
    """A run of train_lenet on 400 labelled digits; its model is the champion of all that follows."""
    with deployment.collection("labelled", *deployment.labelled(LABELLED)):
        return run_dag("train_lenet", epochs=2, batch_size=32, seed=7)
