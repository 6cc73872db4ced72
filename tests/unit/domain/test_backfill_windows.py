"""The windows of a backfill, and the command that starts it."""

import json
import shlex
from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.domain.backfill_windows import (
    BackfillRequest,
    Window,
    backfill_command,
    backfill_document,
    backfill_windows,
)
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.selection import Reclassify
from mnist_ops.steps.cron_schedule import CronSchedule

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAILY = CronSchedule("@daily")


def day(number: int) -> datetime:
    """A day of January 2026."""
    return datetime(2026, 1, number, tzinfo=UTC)


def test_each_day_is_a_window_and_the_end_is_not_included() -> None:
    """As since and until are everywhere else."""
    windows = backfill_windows(DAILY, BackfillRequest(day(3), day(6)), NOW)
    assert windows == [Window(day(number), day(number + 1)) for number in (3, 4, 5)]


def test_a_window_that_the_time_cuts_is_left_out() -> None:
    """Airflow begins with the first whole one."""
    half = timedelta(hours=12)
    request = BackfillRequest(day(3) + half, day(6) + half)
    assert backfill_windows(DAILY, request, NOW) == [Window(day(4), day(5)), Window(day(5), day(6))]


@pytest.mark.parametrize(("now", "windows"), [(day(6), 2), (day(6) + timedelta(seconds=1), 3)])
def test_a_window_that_is_not_over_is_left_out(now: datetime, windows: int) -> None:
    """Airflow skips it, also in the very moment of its end."""
    assert len(backfill_windows(DAILY, BackfillRequest(day(3), day(20)), now)) == windows


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        (day(30), day(31) + timedelta(days=30), None),
        (day(31), day(31) + timedelta(days=30), "no window of the schedule @daily begins and ends between"),
        (day(30) - timedelta(days=367), day(31), "more than 366 windows"),
        (day(31) - timedelta(days=366), day(31), None),
    ],
)
def test_the_number_of_windows_is_bounded(since: datetime, until: datetime, said: str | None) -> None:
    """At least one, at most a leap year of days; the error says what to choose."""
    request = BackfillRequest(since, until)
    if said is None:
        assert backfill_windows(DAILY, request, NOW)
    else:
        with pytest.raises(UsageError, match=said):
            backfill_windows(DAILY, request, NOW)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"since": day(3), "until": day(3)}, "since: 2026-01-03 00:00 is not before until"),
        ({"since": day(3), "until": day(4), "max_active_runs": 0}, "max active runs: 0"),
    ],
)
def test_a_request_without_sense_is_refused(values: dict[str, object], said: str) -> None:
    """The error names the field."""
    with pytest.raises(UsageError, match=said):
        BackfillRequest(**values)


def test_the_command_names_the_last_window_and_always_reclassify() -> None:
    """To-date is included by Airflow; a run that is done would keep its former parameters otherwise."""
    request = BackfillRequest(day(3), day(6), limit=5, max_active_runs=2)
    document = backfill_document(request, backfill_windows(DAILY, request, NOW))
    words = shlex.split(backfill_command(document))
    assert words[:3] == ["airflow", "backfill", "create"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert json.loads(options.pop("--dag-run-conf")) == {"reclassify": "never", "limit": 5}
    assert options == {
        "--dag-id": "classify_records",
        "--from-date": "2026-01-03T00:00:00Z",
        "--to-date": "2026-01-05T00:00:00Z",
        "--max-active-runs": "2",
        "--reprocess-behavior": "completed",
    }


def test_reasons_are_part_of_the_policy() -> None:
    """As the DAG's form takes them."""
    reasons = frozenset({Reason.NOT_FOUND, Reason.BLOCKED_ADDRESS})
    request = BackfillRequest(day(3), day(6), reclassify=Reclassify.FAILED, reasons=reasons)
    document = backfill_document(request, backfill_windows(DAILY, request, NOW))
    assert document["dag_run_conf"] == {"reclassify": "failed:blocked_address,not_found"}
