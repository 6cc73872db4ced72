"""The ages of records at publication, in histograms that add up."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.ages import AgeHistogram, AgeSummary, age_s, duration

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
# From 1 ms to 20 years.
ages = st.floats(0.001, 6.3e8)


def histogram(*seconds: float) -> AgeHistogram:
    """Return a histogram of these ages."""
    counted = AgeHistogram()
    for age in seconds:
        counted.add(age)
    return counted


@given(st.lists(ages, min_size=1))
def test_percentiles_are_at_most_three_percent_off(values: list[float]) -> None:
    """By the nearest rank; the largest age is exact."""
    summary = histogram(*values).summary()
    assert summary is not None
    ordered = sorted(values)
    for share, found in ((0.50, summary.p50), (0.95, summary.p95)):
        assert found == pytest.approx(ordered[math.ceil(share * len(values)) - 1], rel=0.03)
    assert (summary.records, summary.max) == (len(values), ordered[-1])


@given(st.lists(ages), st.lists(ages))
def test_the_histograms_of_two_parts_add_up(one: list[float], other: list[float]) -> None:
    """As if one part had held all records."""
    merged = histogram(*one)
    merged.merge(histogram(*other))
    assert merged == histogram(*one, *other)


@given(st.lists(ages))
def test_a_histogram_comes_back_as_it_was(values: list[float]) -> None:
    """Outcome shards carry it as JSON."""
    counted = histogram(*values)
    assert AgeHistogram.of(json.loads(json.dumps(counted.document()))) == counted


def test_without_records_there_is_no_summary() -> None:
    """No percentile can be given."""
    assert AgeHistogram().summary() is None


def test_an_age_under_a_millisecond_counts_as_zero() -> None:
    """MongoDB's dates are whole milliseconds."""
    summary = histogram(0.0, 0.0005).summary()
    assert summary is not None
    assert (summary.p50, summary.p95) == (0.0, 0.0)


def test_a_record_of_a_clock_that_is_ahead_has_age_zero() -> None:
    """A negative age would make percentiles look better than they are."""
    assert age_s(AT + timedelta(minutes=5), AT) == 0.0
    assert age_s(AT - timedelta(minutes=5), AT) == 300.0
    assert age_s(None, AT) is None


def test_a_summary_is_kept_to_the_millisecond() -> None:
    """As in ledgers."""
    assert AgeSummary(3, 4.20049, 11.0, 11.00051).document() == {
        "records": 3,
        "p50": 4.2,
        "p95": 11.0,
        "max": 11.001,
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (4.21, "4.2 s"), (11, "11 s"), (210, "3.5 min"), (93_600, "26 h"), (1e6, "12 days")],
)
def test_a_duration_is_said_in_the_unit_that_people_use(seconds: float, words: str) -> None:
    """Nobody reads 93,600 seconds."""
    assert duration(seconds) == words
