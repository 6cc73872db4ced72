"""`mnist-ops gc`, on stores in memory."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from mnist_ops import wiring
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli import app
from mnist_ops.domain.errors import UsageError
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
    """It is wrong usage, and the error has an example."""
    result = mnist_ops("gc", "--delete", "--older-than", age)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == f"--older-than {age}: expected days, such as 30d"


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("runs", [RefusingToDelete], indirect=True)
def test_what_the_store_does_not_delete_is_named() -> None:
    """Exit code 1, with the store's message."""
    result = mnist_ops("gc", "--delete")
    assert result.exit_code == 1
    assert result.output.count(": AccessDenied: no") == 3
    assert "deleted 1" in result.output  # the upload
