"""`mnist-ops runs list`, `runs show` and `runs release-hold`, on stores in memory."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner, Result

from mnist_ops import wiring
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli import app
from mnist_ops.domain.ages import AgeSummary
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation, run_key
from mnist_ops.domain.outcomes import Ledger
from tests.support.small_runs import SmallRuns

RUN_ID = "manual__2026-11-28T12:00:00+00:00"
KEY = run_key("classify_records", RUN_ID)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> SmallRuns:
    """A run of ten records, one without an image, and a later one in 2 generations without records."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    runs.images.images.pop("https://images.example/3.png")
    runs.run(Generation(KEY))
    runs.run(Generation("cli/20261128T130000Z-0a"))
    runs.run(Generation("cli/20261128T130000Z-0a", 1))
    monkeypatch.setattr(
        wiring,
        "adapters_of_environment",
        lambda settings, _: replace(runs.steps().adapters, settings=settings),
    )
    monkeypatch.setenv("COLUMNS", "200")
    return runs


def mnist_ops(*words: str) -> Result:
    """Run a command of `runs`."""
    return CliRunner().invoke(app, ["runs", *words])


def error_of(*words: str) -> str:
    """The message of a command that is used wrongly."""
    error = mnist_ops(*words).exception
    assert isinstance(error, UsageError)
    return str(error)


@pytest.mark.usefixtures("stores")
def test_the_list_has_a_row_for_each_ledger() -> None:
    """Oldest first, with the outcomes in short."""
    header, first, second, third = mnist_ops("list").output.splitlines()
    assert header.split() == ["run", "finished", "records", "outcomes", "problem"]
    assert first.startswith(f"classify_records/{RUN_ID} ")
    assert first.rstrip().endswith("10  9 predicted, 1 quarantined")
    assert second.split()[0] == "cli/20261128T130000Z-0a"
    assert third.startswith("cli/20261128T130000Z-0a (generation 1)")


@pytest.mark.usefixtures("stores")
def test_no_line_of_the_list_is_longer_than_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ids of Airflow are long: the other columns follow below."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = mnist_ops("list").output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "9 predicted, 1 quarantined" in " ".join(" ".join(lines).split())


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("beginning", ["classify", KEY, RUN_ID, "manual__2026"])
def test_the_list_can_be_restricted_to_a_beginning(beginning: str) -> None:
    """Of the key, or of Airflow's run id."""
    (ledger,) = map(json.loads, mnist_ops("list", beginning, "--json").output.splitlines())
    assert ledger["run"] == KEY


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_beginning_that_no_run_has_is_a_usage_error_with_the_nearest(option: list[str]) -> None:
    """An empty list would look as if the run had not been finished."""
    error = error_of("list", "manuel", *option)
    assert error.startswith(f"no run 'manuel'; the nearest are: classify_records/{RUN_ID}")


def test_a_run_that_is_listed_before_it_is_finished_says_so(stores: SmallRuns) -> None:
    """It is not unknown."""
    stores.snapshot(Generation(run_key("classify_records", "scheduled__1")))
    assert error_of("list", "scheduled__1").endswith(": has no ledger yet, so it is not finished")


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("run", [KEY, f"classify_records/{RUN_ID}", RUN_ID, "manual", "classify"])
def test_a_run_is_shown_by_any_of_its_names(run: str) -> None:
    """Its key or run id, percent-encoded or not, or a unique beginning."""
    assert json.loads(mnist_ops("show", run, "--json").output)["run"] == KEY


@pytest.mark.usefixtures("stores")
def test_a_run_is_shown_in_words() -> None:
    """Outcomes, labels, failures with examples, window, champion, cost and bottleneck."""
    output = mnist_ops("show", RUN_ID).output
    facts = dict(line.split("  ", 1) for line in output.splitlines() if "  " in line)
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["outcomes"] == "9 predicted, 1 quarantined"
    assert facts["labels"] == "9 seven"
    assert facts["needs review"] == "0 of 9 predictions"
    assert facts["age at publication"].startswith("p50 ")
    assert facts["failures"] == "1 not_found"
    assert facts["champion"] == "lenet5 1"
    assert facts["window"].startswith("created ")
    assert facts["cost"].startswith("about 0.00")
    assert " of the time of all tasks: " in facts["bottleneck"]
    assert facts["not_found"].startswith("3")
    listed = f"mnist-ops records list --run classify_records/{RUN_ID} --generation 0"
    assert output.splitlines()[-1] == f"every record: {listed}"


@pytest.mark.usefixtures("stores")
def test_the_newest_generation_is_shown_unless_another_is_named() -> None:
    """One that does not exist is a usage error with those that do."""
    run = "cli/20261128T130000Z-0a"
    assert json.loads(mnist_ops("show", run, "--json").output)["generation"] == 1
    assert json.loads(mnist_ops("show", run, "--generation", "0", "--json").output)["generation"] == 0
    assert error_of("show", run, "--generation", "7") == f"{run}: has no generation 7; there are: 0, 1"


@pytest.mark.usefixtures("stores")
def test_an_unknown_run_is_a_usage_error_with_the_nearest() -> None:
    """As people see them in Airflow."""
    message = error_of("show", RUN_ID.replace("12:00", "12:01"))
    assert message.startswith(f"no run '{RUN_ID.replace('12:00', '12:01')}'; the nearest are: ")
    assert message.split(": ", 1)[1].startswith(f"classify_records/{RUN_ID}")


def test_a_beginning_of_several_runs_is_a_usage_error(stores: SmallRuns) -> None:
    """With some of them."""
    stores.run(Generation(run_key("classify_records", "manual__2027")))
    assert error_of("show", "manual__2") == (
        f"manual__2: may be any of 2 runs, such as classify_records/{RUN_ID}, classify_records/manual__2027"
    )


def test_a_run_that_is_not_finished_says_so(stores: SmallRuns) -> None:
    """Its snapshot is committed, and it has no ledger."""
    stores.snapshot(Generation(run_key("classify_records", "scheduled__1")))
    assert error_of("show", "scheduled__1") == (
        "classify_records/scheduled__1: has no ledger yet, so it is not finished"
    )


def hold(stores: SmallRuns, generation: Generation) -> None:
    """Give a run a ledger that says that it is over its budget."""
    ledger = stores.runs._ledgers[generation.id]
    stores.runs.put_ledger(replace(ledger, held_because="10 of 10 records failed"))


def test_a_run_that_is_not_held_cannot_be_released(stores: SmallRuns) -> None:
    """Its ledger says that it was within its budget: somebody means another run."""
    error = error_of("release-hold", RUN_ID, "--why", "x")
    assert error == (
        f"classify_records/{RUN_ID}, generation 0: finished, and not over its failure budget, "
        "so there is nothing to release"
    )
    assert stores.runs.hold_release(Generation(KEY)) is None


def test_a_hold_is_released_by_any_name_of_the_run(stores: SmallRuns) -> None:
    """Of its newest generation; the next step depends on who started the run."""
    hold(stores, Generation(KEY))
    hold(stores, Generation("cli/20261128T130000Z-0a", 1))
    result = mnist_ops("release-hold", RUN_ID, "--why", "they are broken indeed")
    assert result.output == (f"classify_records/{RUN_ID}, generation 0, is released: clear its task assess\n")
    assert stores.runs.hold_release(Generation(KEY)) is not None
    assert re.search(r"released +by .* UTC: they are broken indeed", mnist_ops("show", RUN_ID).output)
    released = json.loads(mnist_ops("show", RUN_ID, "--json").output)["hold_released"]
    assert released["why"] == "they are broken indeed"
    other = mnist_ops("release-hold", "cli/", "--why", "so be it")
    assert ", generation 1, is released: resume it: mnist-ops runs resume memory://" in other.output


def test_a_hold_is_released_before_the_run_has_a_ledger(stores: SmallRuns) -> None:
    """The log of `assess` asks for it; the rest of the run may take a while."""
    held = Generation(run_key("classify_records", "scheduled__1"))
    stores.snapshot(held)
    assert mnist_ops("release-hold", "scheduled__1", "--why", "so be it").exit_code == 0
    assert stores.runs.hold_release(held) is not None
    assert error_of("release-hold", "nobody", "--why", "x").startswith("no run 'nobody'; the nearest are: ")


def red_run(key: str) -> Ledger:
    """Return the ledger of a run without an outcome."""
    return Ledger(
        generation=Generation(key),
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


def test_a_problem_comes_first(stores: SmallRuns) -> None:
    """Of a run without an outcome; it cost nothing and has no bottleneck."""
    stores.runs.put_ledger(red_run("dag/red"))
    lines = [line.split(maxsplit=1) for line in mnist_ops("show", "dag/red").output.splitlines()]
    assert lines[0] == ["PROBLEM", "no outcome of part 1"]
    assert ["cost", "about 0.000000 USD"] in lines
    assert "bottleneck" not in {line[0] for line in lines}


def test_a_run_that_missed_its_freshness_objective_says_so(stores: SmallRuns) -> None:
    """With the objective, in words."""
    late = replace(
        red_run("dag/late"), age=AgeSummary(1, 7_200.0, 7_200.0, 7_200.0), freshness_s=60.0, missing_parts=[]
    )
    stores.runs.put_ledger(late)
    lines = mnist_ops("show", "dag/late").output.splitlines()
    assert "freshness           MISSED: the objective for p95 is 60 s" in lines


def test_without_runs_the_list_says_so(stores: SmallRuns) -> None:
    """Also when one is asked for."""
    stores.runs = type(stores.runs)()
    assert mnist_ops("list").output == "no run is finished yet\n"
    assert (mnist_ops("list", "--json").exit_code, mnist_ops("list", "--json").output) == (0, "")
    assert error_of("show", "x") == "no run 'x': there is no run yet"
