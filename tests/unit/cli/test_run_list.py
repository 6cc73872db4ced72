"""`mnist-ops runs list`, on stores in memory."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from mnist_ops import wiring
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli import app
from mnist_ops.cli._support.ledger_text import summary_of
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Ledger
from tests.support.small_runs import SmallRuns


@pytest.fixture
def finished_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of 10 records; the command line is connected to its stores."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    runs.run(Generation("dag/run"))
    monkeypatch.setattr(
        wiring,
        "adapters_of_environment",
        lambda settings, _: replace(runs.steps().adapters, settings=settings),
    )


@pytest.mark.usefixtures("finished_run")
def test_a_short_ledger_names_outcomes_cost_and_bottleneck() -> None:
    """In four lines."""
    first, outcomes, cost, bottleneck = CliRunner().invoke(app, ["runs", "list"]).output.splitlines()
    assert first.startswith("dag/run, generation 0, 20")
    assert outcomes == "  10 records: 10 predicted"
    assert cost.startswith("  cost: about 0.00")
    assert " USD per 1,000 records (s3_writes 0.0000" in cost
    assert bottleneck.startswith("  bottleneck: ")
    assert " of the time of all tasks: " in bottleneck


def test_a_ledger_without_records_is_shown_with_its_problem() -> None:
    """It cost nothing and has no bottleneck."""
    ledger = Ledger(
        generation=Generation("dag/run"),
        manifest="s3://bucket/manifest.json",
        selection={},
        model=None,
        selected=0,
        outcomes={"predicted": 0},
        reasons={},
        superseded=0,
        missing_parts=[1],
        lost_writes=[],
        stages={},
        held_because=None,
        finished_at=datetime(2026, 1, 31, tzinfo=UTC),
        refers_to=[],
    )
    assert summary_of(ledger.document()).splitlines() == [
        "dag/run, generation 0, 2026-01-31T00:00:00+00:00",
        "  0 records",
        "  PROBLEM: no outcome of part 1",
        "  cost: about 0.000000 USD",
    ]
