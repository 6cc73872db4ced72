"""`mnist-ops init`, on stores in memory."""

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from mnist_ops import wiring
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.memory.registries import InMemoryRuns
from mnist_ops.cli import app
from mnist_ops.settings import Settings


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> InMemoryRecords:
    """The records that the command line is connected to."""
    records = InMemoryRecords()
    objects = SimpleNamespace(ensure_bucket=lambda: None)
    adapters = SimpleNamespace(records=records, runs=InMemoryRuns(), objects=objects, settings=Settings())
    monkeypatch.setattr(wiring, "adapters_of_environment", lambda *_: adapters)
    return records


def test_it_names_what_it_made(records: InMemoryRecords) -> None:
    """The index and the bucket."""
    records.insert({"_id": 1})
    result = CliRunner().invoke(app, ["init"])
    assert (result.stdout, result.stderr) == ("index mnist_ops_selection\nbucket mnist-ops\n", "")
    assert not records.missing_indexes()


@pytest.mark.usefixtures("records")
def test_it_warns_of_a_collection_that_does_not_exist() -> None:
    """Its indexes make the collection, so that a wrong name would not be noticed later."""
    result = CliRunner().invoke(app, ["init"])
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: the collection memory.records does not exist; "
        "if the name is wrong, set MNIST_OPS_MONGO_DATABASE or MNIST_OPS_MONGO_COLLECTION\n"
    )
