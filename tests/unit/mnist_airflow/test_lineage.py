"""What a task read and wrote, by the names that OpenLineage gives to collections and objects."""

import pytest
from airflow.sdk import Connection

from mnist_airflow.lineage import object_names, records_name
from mnist_airflow.operators import (
    AssessRunOperator,
    FetchImagesOperator,
    PublishPredictionsOperator,
    ReconcileRunOperator,
    SnapshotRecordsOperator,
)
from mnist_airflow.operators.base import MnistOpsOperator

RECORDS = ("mongodb://mongo.internal:27018", "shop.digits")


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection to MongoDB, with a password that is in no name."""
    where = Connection(
        conn_id="mongo_default",
        conn_type="mongo",
        host="mongo.internal",
        port=27018,
        login="ada",
        password="secret",
    )
    monkeypatch.setattr(Connection, "get", lambda conn_id: {"mongo_default": where}[conn_id])


def test_objects_are_named_by_bucket_and_key() -> None:
    """Each once; a part's reference names its manifest, and a task that did not run has returned None."""
    values = ["s3://bucket/a/manifest.json#3", None, ["s3://bucket/b.parquet", None, "s3://bucket/b.parquet"]]
    assert object_names(values) == [("s3://bucket", "a/manifest.json"), ("s3://bucket", "b.parquet")]


def test_a_connection_without_host_and_port_names_what_the_client_takes() -> None:
    """This machine, and MongoDB's own port."""
    assert records_name(None, None, "mnist", "records") == ("mongodb://127.0.0.1:27017", "mnist.records")


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs"),
    [
        (SnapshotRecordsOperator(task_id="task", database="shop", collection="digits"), [RECORDS], []),
        (FetchImagesOperator(task_id="task", part="s3://b/m.json#0"), [("s3://b", "m.json")], []),
        (
            AssessRunOperator(
                task_id="task", manifest="s3://b/m.json", predictions=["s3://b/p0", "s3://b/p1"]
            ),
            [("s3://b", "m.json"), ("s3://b", "p0"), ("s3://b", "p1")],
            [],
        ),
        (
            PublishPredictionsOperator(
                task_id="task",
                predictions="s3://b/p0",
                assessment="s3://b/a",
                database="shop",
                collection="digits",
            ),
            [("s3://b", "p0"), ("s3://b", "a")],
            [RECORDS],
        ),
        (ReconcileRunOperator(task_id="task", manifest=None, outcomes=None), [], []),
    ],
)
def test_a_task_names_what_it_reads(
    operator: MnistOpsOperator, inputs: list[tuple[str, str]], outputs: list[tuple[str, str]]
) -> None:
    """Before it is executed, or if it fails; the records are written by publish alone."""
    assert operator.lineage() == (inputs, outputs)
