"""Cron expressions, as Airflow takes them."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from mnist_ops.domain.errors import UsageError
from mnist_ops.steps.cron_schedule import CronSchedule

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "second"),
    [
        ("@hourly", "2026-01-01T01:00"),
        ("@daily", "2026-01-02T00:00"),
        ("@weekly", "2026-01-11T00:00"),
        ("@monthly", "2026-02-01T00:00"),
        ("@quarterly", "2026-04-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        ("0 6 * jan mon-fri", "2026-01-02T06:00"),
    ],
)
def test_presets_and_names_are_read(expression: str, second: str) -> None:
    """As Airflow has them, @quarterly included."""
    times = CronSchedule(expression).times(NEW_YEAR)
    assert list(islice(times, 2))[1] == datetime.fromisoformat(f"{second}+00:00")


def test_a_start_within_a_minute_waits_for_the_next_time() -> None:
    """A time before `since` is never given, and `since` itself is."""
    schedule = CronSchedule("* * * * *")
    assert next(schedule.times(NEW_YEAR)) == NEW_YEAR
    assert next(schedule.times(NEW_YEAR + timedelta(microseconds=1))) == NEW_YEAR + timedelta(minutes=1)


@pytest.mark.parametrize("expression", ["daily", "* * * *", "60 * * * *", "*/0 * * * *", "* * * foo *"])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    """The error quotes it and says what can be given."""
    with pytest.raises(UsageError, match=r"schedule: .*give five fields"):
        CronSchedule(expression)


def test_a_day_that_never_comes_is_refused() -> None:
    """Instead of being looked for without end."""
    with pytest.raises(UsageError, match="'0 0 30 2 \\*' is never due"):
        next(CronSchedule("0 0 30 2 *").times(NEW_YEAR))
