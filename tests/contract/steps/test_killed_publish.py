"""A publish is killed in the middle, and the next one continues: real processes of database and S3."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from pymongo import MongoClient, monitoring

from mnist_ops.adapters.memory.registries import InMemoryRuns
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.records import FieldNames
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.steps.publish import RECORDS_PER_BULK
from tests.contract.steps.test_concurrent_runs import AT, FAILING, Run

RECORDS = 3 * RECORDS_PER_BULK
BUCKET = "killed-publish"


class Updates(monitoring.CommandListener):
    """Counts the updates that a client sends, and in how many bulks."""

    def __init__(self) -> None:
        self.sent = 0
        self.bulks = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count what goes out."""
        if event.command_name == "update":
            self.sent += len(event.command["updates"])
            self.bulks += 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to count."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to count."""


@pytest.fixture
def run(secantus, s3_clients) -> Run:
    """A run over three bulks of records, nothing done yet."""
    secantus.insert(
        *(
            {"_id": number, "image_url": f"https://images.example/{number}.png", "created_at": AT}
            for number in range(RECORDS)
        )
    )
    objects = S3Objects(s3_clients("seaweedfs"), BUCKET, secantus.collection.database.name)
    objects.ensure_bucket()
    return Run(secantus.store, objects, InMemoryRuns(), Generation("classify_records/killed"))


@pytest.fixture
def start(embedded, secantus) -> Callable[..., subprocess.Popen]:
    """Starts `mnist-ops steps publish` in a separate process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    database = secantus.collection.database.name
    environment = inherited | {
        **{
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(embedded.connections[name])
            for name in ("aws_default", "mongo_default")
        },
        "MNIST_OPS_S3_BUCKET": BUCKET,
        "MNIST_OPS_S3_PREFIX": database,
        "MNIST_OPS_MONGO_DATABASE": database,
        "MNIST_OPS_MONGO_COLLECTION": secantus.collection.name,
    }
    command = [sys.executable, "-m", "mnist_ops", "steps", "publish"]
    return lambda *uris: subprocess.Popen([*command, *uris], env=environment)


def _written(secantus) -> int:
    """How many records carry a mark of the run."""
    marks = ("prediction.run", "prediction_failure.run")
    return secantus.collection.count_documents({"$or": [{mark: "classify_records/killed"} for mark in marks]})


def _settled(secantus) -> int:
    """The same, once the server is through with the bulk that the killed process had sent."""
    before, now = -1, _written(secantus)
    while before != now:
        time.sleep(0.5)
        before, now = now, _written(secantus)
    return now


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_killed_publish_resends_at_most_one_bulk(run, secantus, start, mongo_port, share):
    """The next one sends what is missing and reads the rest back; every record is written exactly once."""
    manifest, ready = run.ready()
    with start(*ready) as process:
        while _written(secantus) < share * RECORDS:
            assert process.poll() is None, "it was through before it was killed"
        process.kill()
    assert process.returncode == -9
    written = _settled(secantus)
    assert written < RECORDS

    updates = Updates()
    with MongoClient("127.0.0.1", mongo_port, event_listeners=[updates]) as client:
        collection = client[secantus.collection.database.name][secantus.collection.name]
        shard = run.publish(ready, MongoRecords(collection, FieldNames()))

    assert RECORDS - written <= updates.sent <= RECORDS - written + RECORDS_PER_BULK
    with open_shard(run.objects, shard, OUTCOMES) as outcomes:
        counted = Counter(row["outcome"] for row in outcomes.rows())
    failures = RECORDS // FAILING
    assert counted == {"predicted": RECORDS - failures, "quarantined": failures}
    assert run.reconcile(manifest, shard) == counted
    assert secantus.collection.count_documents({"prediction_history": {"$exists": True}}) == 0
    assert secantus.collection.count_documents({"prediction_failure.attempts": 1}) == failures


def test_a_publish_that_is_repeated_sends_nothing(run, secantus, mongo_port):
    """It finds everything written; for that, the first one pays two lookups of three records."""
    _, ready = run.ready()
    first, again = Updates(), Updates()
    shards = []
    for listener in (first, again):
        with MongoClient("127.0.0.1", mongo_port, event_listeners=[listener]) as client:
            collection = client[secantus.collection.database.name][secantus.collection.name]
            shards.append(run.publish(ready, MongoRecords(collection, FieldNames())))
    assert (first.sent, first.bulks, again.sent) == (RECORDS, RECORDS // RECORDS_PER_BULK, 0)
    rows = []
    for uri in shards:
        with open_shard(run.objects, uri, OUTCOMES) as shard:
            rows.append(list(shard.rows()))
    assert rows[0] == rows[1]
