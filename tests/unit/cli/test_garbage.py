"""`mnist-ops gc` and `mnist-ops ledgers --short`, on stores in memory."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from mnist_ops import wiring
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli import app
from mnist_ops.cli.operations import in_words
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.retention import UnfinishedUpload
from mnist_ops.settings import Settings
from tests.support.doubles import Doubles
from tests.support.small_runs import SmallRuns


class RefusingToDelete(InMemoryObjects):
    """A store that deletes nothing."""

    def delete(self, keys):
        """Refuse every key."""
        return dict.fromkeys(keys, "AccessDenied: no")


@pytest.fixture(params=[InMemoryObjects])
def runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SmallRuns:
    """A finished run with garbage that is 40 days old; the command line is connected to it."""
    objects = request.param()
    objects.now = lambda: datetime.now(UTC) - timedelta(days=40)
    runs = SmallRuns(objects, InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    ledger = runs.run(Generation("dag/run"))
    runs.fetch(ledger.manifest)
    objects.uploads.append(UnfinishedUpload("snapshots/dag/run/x/part-00000.bson.gz", "1", objects.now()))

    def adapters(settings: Settings, _: object) -> Doubles:
        return replace(runs.steps().adapters, settings=settings)

    monkeypatch.setattr(wiring, "adapters_of_environment", adapters)
    return runs


def mnist_ops(*words: str) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, words)


def test_gc_reports_what_would_go_and_deletes_nothing(runs: SmallRuns) -> None:
    """Count and bytes by kind, and why the rest stays."""
    before = dict(runs.objects.objects)
    result = mnist_ops("gc")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("garbage: 3 objects (")
    assert lines[0].endswith(" MB) of images")
    assert lines[1] == "garbage: 1 unfinished uploads"
    assert lines[2].startswith("kept: 14 objects (")
    assert lines[2].endswith(", referenced")
    assert lines[-1] == "nothing was deleted: run it again with --delete"
    assert runs.objects.objects == before
    assert len(runs.objects.uploads) == 1


def test_gc_with_delete_deletes_and_a_second_one_finds_nothing(runs: SmallRuns) -> None:
    """Safe to repeat."""
    assert mnist_ops("gc", "--delete").output.splitlines()[-1] == "deleted 4"
    assert "garbage" not in mnist_ops("gc", "--delete").output
    assert mnist_ops("gc").output.splitlines()[-1] == "nothing to delete"
    assert runs.objects.uploads == []


@pytest.mark.parametrize(
    ("words", "garbage"), [(("--older-than", "45d"), False), (("--older-than", "35d"), True)]
)
def test_the_minimum_age_can_be_given(runs: SmallRuns, words: tuple[str, ...], garbage: bool) -> None:
    """Instead of the setting's."""
    assert runs.objects
    assert ("garbage" in mnist_ops("gc", *words).output) is garbage


@pytest.mark.usefixtures("runs")
def test_the_minimum_age_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST_OPS_RETENTION_DAYS."""
    monkeypatch.setenv("MNIST_OPS_RETENTION_DAYS", "50")
    assert "garbage" not in mnist_ops("gc").output


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("age", ["0d", "30", "-1d", "12h", "soon", ""])
def test_another_age_is_refused(age: str) -> None:
    """Exit code 2."""
    result = mnist_ops("gc", "--delete", "--older-than", age)
    assert result.exit_code == 2
    assert "such as 30d" in result.output


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("runs", [RefusingToDelete], indirect=True)
def test_what_the_store_does_not_delete_is_named() -> None:
    """Exit code 1, with the store's message."""
    result = mnist_ops("gc", "--delete")
    assert result.exit_code == 1
    assert result.output.count(": AccessDenied: no") == 3
    assert "deleted 1" in result.output  # the upload


@pytest.mark.usefixtures("runs")
def test_ledgers_in_short_name_outcomes_cost_and_bottleneck() -> None:
    """For people on call."""
    first, outcomes, cost, bottleneck = mnist_ops("ledgers", "--short").output.splitlines()
    assert first.startswith("dag/run, generation 0, 20")
    assert outcomes == "  10 records: 10 predicted"
    assert cost.startswith("  cost: about 0.00")
    assert " USD per 1,000 records (s3_writes 0.0000" in cost
    assert bottleneck.startswith("  bottleneck: ")
    assert " of the time of all tasks: " in bottleneck


def test_a_ledger_without_records_is_shown_with_its_problem() -> None:
    """It has neither cost nor bottleneck."""
    ledger = {
        "run": "dag/run",
        "generation": 0,
        "finished_at": datetime(2026, 1, 31, tzinfo=UTC),
        "selected": 0,
        "outcomes": {"predicted": 0},
        "imbalance": "no outcome of part 1",
        "held_because": None,
        "cost": None,
        "bottleneck": None,
    }
    assert in_words(ledger).splitlines() == [
        "dag/run, generation 0, 2026-01-31T00:00:00+00:00",
        "  0 records",
        "  PROBLEM: no outcome of part 1",
    ]
