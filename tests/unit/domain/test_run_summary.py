"""The summary of a run: its exact lines, and its counts."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mnist_ops.domain.ages import AgeSummary
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.failure_examples import failure_example
from mnist_ops.domain.keys import Generation, run_key
from mnist_ops.domain.outcome_lines import LONGEST_LINE
from mnist_ops.domain.outcomes import Ledger, Outcome
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.run_summary import RunFailed, counts, summary_lines
from mnist_ops.domain.stages import StageReport

RUN = "classify_records/scheduled__2026-01-31T00%3A00%3A00%2B00%3A00"
READABLE = "classify_records/scheduled__2026-01-31T00:00:00+00:00"
CLI_RUN = Generation("cli/20260131T000000Z-abcd")
HELD = "40 of 50 records failed (30 not_found, 10 timeout), more than the budget of 20%"
NONE = dict.fromkeys(map(str, Outcome), 0)
EMPTY = Ledger(
    generation=Generation(RUN, 2),
    manifest="s3://bucket/snapshots/manifest.json",
    selection={"since": None, "until": "2026-01-31T00:00:00+00:00", "reclassify": "never", "limit": None},
    model=None,
    selected=0,
    outcomes=NONE,
    reasons={},
    superseded=0,
    missing_parts=[],
    lost_writes=[],
    stages={},
    held_because=None,
    finished_at=datetime(2026, 1, 31, tzinfo=UTC),
    refers_to=[],
)
GREEN = replace(
    EMPTY,
    model=BundleRef("lenet5", 7, "s3://bucket/models", "sha256:abc"),
    selected=5_000,
    outcomes=NONE | {"predicted": 4_987, "quarantined": 11, "retry_later": 2},
    reasons={"timeout": 2, "not_found": 11},
    superseded=3,
    labels={"one": 987, "seven": 4_000},
    needs_review=23,
    age=AgeSummary(4_987, 4.2, 11.0, 14.0),
    examples={
        "timeout": [failure_example('"slow"', "https://images.example/slow.png", "no answer in 30 s")],
        "not_found": [
            failure_example('{"$numberInt": "3"}', "https://images.example/3.png", "404 Not Found"),
            failure_example('{"$numberInt": "4"}', "https://images.example/4.png", "404 Not Found"),
        ],
    },
)
HOLDING = replace(
    GREEN,
    selected=50,
    outcomes=NONE | {"held": 10, "retry_later": 40},
    reasons={"not_found": 30, "timeout": 10},
    superseded=0,
    labels={},
    needs_review=0,
    age=None,
    examples={},
    held_because=HELD,
    over_budget=True,
)


LATE = replace(
    GREEN,
    selection=GREEN.selection | {"at": "2026-01-31T00:00:00+00:00"},
    finished_at=datetime(2026, 1, 31, 0, 50, tzinfo=UTC),
    age=AgeSummary(4_987, 1_800.0, 3_600.0, 4_000.0),
    freshness_s=900.0,
    stages={
        "snapshot": StageReport("snapshot", seconds=10.0, read_s=9.0),
        "fetch": StageReport("fetch", seconds=2_400.0, read_s=2_300.0),
    },
)


def test_a_late_run_says_so_first_and_names_its_bottleneck() -> None:
    """It is green, but its records waited for longer than the objective."""
    assert summary_lines(LATE)[:3] == [
        "late: age p95 is 60 min, the objective (MNIST_OPS_FRESHNESS_S) is 15 min",
        "this run took 50 min; bottleneck fetch: reading from the image servers",
        "5000 records: 4987 predicted, 11 quarantined, 2 retry_later",
    ]
    assert LATE.document()["freshness"] == {"objective_s": 900.0, "met": False}


def test_of_records_that_waited_for_the_run_to_begin_the_run_is_not_the_bottleneck() -> None:
    """Its own steps took a small part of the time."""
    waited = replace(LATE, age=AgeSummary(4_987, 80_000.0, 90_000.0, 90_000.0))
    assert summary_lines(waited)[1:3] == [
        "most of it was before this run, which took 50 min: let runs begin more often",
        "5000 records: 4987 predicted, 11 quarantined, 2 retry_later",
    ]


def test_a_run_within_its_objective_is_not_late() -> None:
    """Nor is one without an objective, or one that gave no record its first prediction."""
    on_time = replace(LATE, freshness_s=3_600.0)
    assert on_time.document()["freshness"] == {"objective_s": 3_600.0, "met": True}
    for ledger in (on_time, replace(LATE, freshness_s=None), replace(LATE, age=None)):
        assert not [line for line in summary_lines(ledger) if line.startswith("late")]


def test_a_green_run_says_its_outcomes_window_champion_labels_and_failures() -> None:
    """The most frequent first, with the records that failed."""
    assert summary_lines(GREEN) == [
        "5000 records: 4987 predicted, 11 quarantined, 2 retry_later",
        "created until 2026-01-31T00:00:00Z; reclassify never",
        "champion lenet5 7",
        "labels: 4000 seven, 987 one",
        "needs review: 23 of 4987 predictions",
        "age at publication: p50 4.2 s, p95 11 s",
        "13 failed: 11 not_found, 2 timeout",
        "not_found:",
        '  {"$numberInt": "3"} https://images.example/3.png: 404 Not Found',
        '  {"$numberInt": "4"} https://images.example/4.png: 404 Not Found',
        "timeout:",
        '  "slow" https://images.example/slow.png: no answer in 30 s',
        "3 outcomes were replaced by later runs, or their records deleted",
    ]


def test_a_run_of_no_records_says_so_with_its_window() -> None:
    """A day without records is no failure."""
    assert summary_lines(EMPTY) == [
        "0 records: none was waiting",
        "created until 2026-01-31T00:00:00Z; reclassify never",
    ]


def test_a_run_over_its_budget_says_what_is_held_and_how_to_publish_it() -> None:
    """The reason first; a command that is too long for a line is continued by a backslash."""
    assert summary_lines(HOLDING) == [
        HELD,
        "10 predictions are held: they are not in MongoDB.",
        "Look at the failures:",
        f"mnist-ops records list --run {READABLE} --generation 2 \\",
        "  --outcome retry_later",
        "Fix the cause: later runs try 40 failed records again.",
        "To publish the predictions anyway, release the run, then clear the task assess:",
        f"mnist-ops runs release-hold {READABLE} --generation 2 \\",
        '  --why "…"',
        "50 records: 40 retry_later, 10 held",
        "created until 2026-01-31T00:00:00Z; reclassify never",
        "champion lenet5 7",
        "40 failed: 30 not_found, 10 timeout",
    ]


def test_a_run_over_its_budget_is_red_with_nothing_to_hold() -> None:
    """The failures can be accepted as well."""
    ledger = replace(HOLDING, outcomes=NONE | {"quarantined": 50}, generation=Generation("dag/run"))
    assert summary_lines(ledger)[:6] == [
        HELD,
        "No prediction is held.",
        "Look at the failures:",
        "mnist-ops records list --run dag/run --generation 0 --outcome quarantined",
        "To accept the failures anyway, release the run, then clear the task assess:",
        'mnist-ops runs release-hold dag/run --generation 0 --why "…"',
    ]


def test_a_run_whose_readable_name_is_no_word_of_a_shell_goes_by_its_key() -> None:
    """A run id may have blanks, quotes and semicolons."""
    ledger = replace(HOLDING, generation=Generation(run_key("dag", "night's run; rm")))
    assert summary_lines(ledger)[3] == (
        "mnist-ops records list --run dag/night%27s%20run%3B%20rm --generation 0 --outcome retry_later"
    )


def test_a_run_of_the_command_line_is_resumed_after_its_release() -> None:
    """There is no task to clear."""
    assert summary_lines(replace(HOLDING, generation=CLI_RUN))[5:8] == [
        "To publish the predictions anyway, release the run, then resume it:",
        f'mnist-ops runs release-hold {CLI_RUN.run} --generation 0 --why "…"',
        "mnist-ops runs resume s3://bucket/snapshots/manifest.json",
    ]


def test_a_run_that_does_not_add_up_says_its_numbers_first() -> None:
    """And names the command that shows everything."""
    ledger = replace(GREEN, selected=4_999, generation=Generation("dag/run"))
    assert summary_lines(ledger)[:5] == [
        "selected 4999 records, but 4987 predicted + 11 quarantined + 2 retry_later + 0 held + 0 conflict +",
        "  0 gone = 5000",
        "Was MongoDB restored from a backup, or a task changed? Look at the run:",
        "mnist-ops runs show dag/run --generation 0",
        "4999 records: 4987 predicted, 11 quarantined, 2 retry_later",
    ]


def test_a_run_that_misses_a_part_names_the_part_and_what_to_do() -> None:
    """In Airflow a task is cleared; on the command line the run is continued."""
    ledger = replace(GREEN, missing_parts=[3, 5])
    assert summary_lines(ledger)[:3] == [
        "no outcome of part 3, 5",
        "Look at the logs of the tasks that failed: fetch, classify, assess or publish.",
        "Fix the cause, then clear them with all tasks after them.",
    ]
    assert summary_lines(replace(ledger, generation=CLI_RUN))[:3] == [
        "no outcome of part 3, 5",
        "Continue the run:",
        "mnist-ops runs resume s3://bucket/snapshots/manifest.json",
    ]


def test_a_failed_runs_message_is_the_reason_and_what_to_do() -> None:
    """Its counts are in the log before it; the ledger goes with it."""
    failed = RunFailed(HOLDING)
    assert str(failed).splitlines() == summary_lines(HOLDING)[:9]
    assert failed.ledger is HOLDING
    assert isinstance(failed, Permanent)


def test_the_documentation_shows_these_lines() -> None:
    """A green run, and the error of a red one."""
    page = (Path(__file__).parents[3] / "docs" / "logs.md").read_text()
    assert re.findall(r"^```\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE) == [
        "\n".join(summary_lines(GREEN)),
        str(RunFailed(HOLDING)),
    ]


@pytest.mark.parametrize("ledger", [EMPTY, GREEN, HOLDING, replace(GREEN, missing_parts=[*range(66)])])
def test_every_line_of_a_summary_is_short(ledger: Ledger) -> None:
    """Terminals and Airflow's log show it unbroken."""
    assert max(map(len, summary_lines(ledger))) <= LONGEST_LINE


def test_the_counts_of_a_run_are_json() -> None:
    """They travel as an XCom and as extra of an asset event."""
    assert json.loads(json.dumps(counts(GREEN))) == {
        "run": RUN,
        "generation": 2,
        "selected": 5_000,
        "outcomes": dict(GREEN.outcomes),
        "reasons": {"timeout": 2, "not_found": 11},
        "labels": {"one": 987, "seven": 4_000},
        "needs_review": 23,
        "model": "lenet5",
        "model_version": 7,
        "over_budget": False,
        "age_s": {"records": 4_987, "p50": 4.2, "p95": 11.0, "max": 14.0},
    }


def test_the_counts_say_whether_a_run_is_over_its_budget_and_name_no_model_where_there_is_none() -> None:
    """Also if it was released. A run without records has no champion pinned."""
    assert counts(HOLDING)["over_budget"] is True
    assert counts(replace(HOLDING, held_because=None))["over_budget"] is True, "it was released"
    assert (counts(EMPTY)["model"], counts(EMPTY)["model_version"]) == (None, None)
