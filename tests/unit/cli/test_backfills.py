"""`mnist-ops backfills preview`, on stores in memory."""

import json

import pytest
from typer.testing import CliRunner

from mnist_ops import wiring
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli import app
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from tests.support.small_runs import SmallRuns

WINDOWS = ("--since", "2026-01-29", "--until", "2026-02-01")


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> SmallRuns:
    """Ten records of 30 January, which three runs have predicted, and one more."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    for number in range(10):
        runs.records.insert(runs.document(number))
        if number in (2, 5, 9):
            runs.run(Generation(f"classify_records/{number}"))
    runs.records.insert(runs.document(10))
    monkeypatch.setattr(wiring, "adapters_of_environment", lambda *_: runs.steps().adapters)
    monkeypatch.setenv("COLUMNS", "120")
    return runs


def preview(*words: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["backfills", "preview", *words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("stores")
def test_the_preview_is_in_words() -> None:
    """Windows, sums, the estimate with where it comes from, and the command on a line of its own."""
    lines = preview(*WINDOWS, "--reclassify", "all").splitlines()
    rows = [line.split() for line in lines[:4]]
    assert rows == [
        ["window", "runs", "records"],
        ["2026-01-29", "00:00", "1", "0"],
        ["2026-01-30", "00:00", "1", "11"],
        ["2026-01-31", "00:00", "1", "0"],
    ]
    facts = dict(line.split("  ", 1) for line in lines if "  " in line)
    assert facts["records"].strip() == "11"
    assert facts["images"].strip() == "at most 11"
    assert facts["requests to S3"].strip().startswith("about ")
    assert "Estimated from the 3 newest runs." in lines
    assert lines[-1].startswith("airflow backfill create --dag-id classify_records --from-date 2026-01-29T")


@pytest.mark.usefixtures("stores")
def test_the_preview_is_a_document_for_programs() -> None:
    """With the body for Airflow's API."""
    document = json.loads(preview(*WINDOWS, "--json"))
    assert (document["records"], document["runs"], document["backfill"]["max_active_runs"]) == (1, 3, 4)
    assert document["windows"][1] == {
        "since": "2026-01-30T00:00:00+00:00",
        "until": "2026-01-31T00:00:00+00:00",
        "records": 1,
    }
    assert document["estimate"]["runs"] == 3


@pytest.mark.usefixtures("stores")
def test_a_wrong_option_is_named() -> None:
    """As for every command."""
    result = CliRunner().invoke(app, ["backfills", "preview", *WINDOWS, "--reclassify", "al"])
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "--reclassify: 'al' is unknown; did you mean all?"
