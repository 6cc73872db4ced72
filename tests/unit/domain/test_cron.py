"""Cron expressions: every field is read as Airflow reads it."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_ops.domain.cron import parse_cron
from mnist_ops.domain.errors import UsageError

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    ascending = st.lists(value, min_size=2, max_size=2, unique=True).map(sorted)
    step = st.integers(1, 12)
    ranges = ascending.map(lambda ends: f"{ends[0]}-{ends[1]}")
    return st.one_of(
        st.just("*"),
        value.map(str),
        ranges,
        step.map(lambda every: f"*/{every}"),
        st.tuples(ranges, step).map(lambda both: f"{both[0]}/{both[1]}"),
        st.lists(value.map(str), min_size=2, max_size=3).map(",".join),
    )


@settings(max_examples=60, deadline=None)
@given(
    fields=st.tuples(*(_field(low, high) for low, high in RANGES)),
    since=st.integers(0, 3 * 365 * 24 * 60).map(lambda minutes: NEW_YEAR + timedelta(minutes=minutes)),
)
def test_a_schedule_is_due_when_airflow_takes_it_to_be_due(fields: tuple[str, ...], since: datetime) -> None:
    """Airflow uses croniter; some combinations of day and month are never due."""
    expression = " ".join(fields)
    expected = croniter(expression, start_time=since - timedelta(seconds=1))
    try:
        times = [expected.get_next(datetime) for _ in range(4)]
    except ValueError:
        return
    assert list(islice(parse_cron(expression).times(since), 4)) == times


@pytest.mark.parametrize(
    ("preset", "second"),
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
def test_presets_and_names_are_read(preset: str, second: str) -> None:
    """As Airflow has them."""
    times = parse_cron(preset).times(NEW_YEAR)
    assert list(islice(times, 2))[1] == datetime.fromisoformat(f"{second}+00:00")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("daily", "five fields"),
        ("* * * *", "five fields"),
        ("60 * * * *", "'60' is not understood as minute"),
        ("* * 0 * *", "'0' is not understood as day of the month"),
        ("* 5-2 * * *", "'5-2' is not understood as hour"),
        ("* 5-5 * * *", "'5-5' is not understood as hour"),
        ("*/0 * * * *", "'\\*/0' is not understood as minute"),
        ("* * L * *", "'L' is not understood as day of the month"),
        ("* * * foo *", "'foo' is not understood as month"),
    ],
)
def test_what_is_no_expression_is_refused_by_its_field(expression: str, said: str) -> None:
    """The error names the field and what is wrong there."""
    with pytest.raises(UsageError, match=said):
        parse_cron(expression)


def test_a_day_that_never_comes_is_refused() -> None:
    """Instead of being looked for without end."""
    with pytest.raises(UsageError, match="'0 0 30 2 \\*' is never due"):
        next(parse_cron("0 0 30 2 *").times(NEW_YEAR))
