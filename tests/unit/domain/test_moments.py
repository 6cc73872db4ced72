"""Points in time as people write them, on the command line and in Airflow's form."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.moments import iso_moment, moment_of_words

NOW = datetime(2026, 1, 31, 12, 30, 5, 250_000, UTC)

# Not at the ends of the calendar, where an offset leads out of it.
moments = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001 (hypothesis takes the limits without a zone)
    datetime(9998, 12, 31),  # noqa: DTZ001
)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(moments, offsets, st.sampled_from(["T", " "]))
def test_an_iso_time_with_an_offset_is_the_same_moment_in_utc(
    moment: datetime, offset: timezone, separator: str
) -> None:
    """In both readers."""
    there = moment.replace(tzinfo=UTC).astimezone(offset)
    text = there.isoformat(separator)
    for read in (iso_moment(text, "since"), moment_of_words(text, "--since", NOW)):
        assert read == there
        assert read.tzinfo is UTC


@given(moments)
def test_an_iso_time_without_an_offset_is_utc(moment: datetime) -> None:
    """As everywhere in this project."""
    assert iso_moment(moment.isoformat(), "since") == moment.replace(tzinfo=UTC)


def test_a_date_is_its_midnight() -> None:
    """So `--since 2026-01-30 --until 2026-01-31` is one day."""
    assert moment_of_words("2026-01-30", "--since", NOW) == datetime(2026, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("today", datetime(2026, 1, 31, tzinfo=UTC)),
        ("Yesterday", datetime(2026, 1, 30, tzinfo=UTC)),
        ("1 day ago", NOW - timedelta(days=1)),
        (" 3  days ago ", NOW - timedelta(days=3)),
        ("3d", NOW - timedelta(days=3)),
        ("12h", NOW - timedelta(hours=12)),
        ("12 hours ago", NOW - timedelta(hours=12)),
    ],
)
def test_words_are_read(text: str, moment: datetime) -> None:
    """Those that people try."""
    assert moment_of_words(text, "--since", NOW) == moment


@given(st.integers(0, 10_000))
def test_hours_and_days_agree(days: int) -> None:
    """A day has 24 hours."""
    assert moment_of_words(f"{days}d", "x", NOW) == moment_of_words(f"{24 * days} hours ago", "x", NOW)


@given(st.text(max_size=12))
def test_any_text_is_a_moment_in_utc_or_a_usage_error(text: str) -> None:
    """Nothing else leaves the readers."""
    for read in (lambda: iso_moment(text, "since"), lambda: moment_of_words(text, "since", NOW)):
        with suppress(UsageError):
            assert read().tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "31.01.2026",
        "20260131",
        "2026-W05",
        "2026-01-31T12",
        "2026-13-01",
        "3 weeks ago",
        "-3d",
        "999999d",
        "0001-01-01T00:00+23:00",
    ],
)
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    """The message names the option and quotes what was typed."""
    with pytest.raises(UsageError) as raised:
        moment_of_words(text, "--since", NOW)
    assert str(raised.value).startswith(
        f"--since: {text!r} is not a point in time; write it like 2026-01-31, "
    )


def test_the_form_takes_no_words() -> None:
    """Airflow repeats a run, and `yesterday` would be another day then."""
    with pytest.raises(UsageError, match=r"^since: 'yesterday' is not a date and time such as 2026-01-31T00"):
        iso_moment("yesterday", "since")
