"""Values as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mnist_ops.serving.formats import NOTHING, byte_size, number, percent, seconds, when


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1_234_567, "1,234,567"),
        (0.456, "0.46"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (None, NOTHING),
    ],
)
def test_a_number_has_three_digits_or_all_of_them(value: float | None, text: str) -> None:
    """Whole numbers are exact."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0 %"),
        (1.0, "100.0 %"),
        (0.9987, "99.9 %"),
        (0.99999, "> 99.9 %"),
        (0.00001, "< 0.1 %"),
        (None, NOTHING),
    ],
)
def test_a_share_is_rounded_to_neither_nothing_nor_all(share: float | None, text: str) -> None:
    """A probability of 99.999 % is not certainty."""
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4217, "0.42 s"),
        (4.26, "4.3 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
        (None, NOTHING),
    ],
)
def test_a_duration_has_two_units(value: float | None, text: str) -> None:
    """The largest ones."""
    assert seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(512, "512 B"), (4_404_019, "4.2 MiB"), (3 << 40, "3.0 TiB")])
def test_a_size_has_a_binary_unit(value: int, text: str) -> None:
    """As S3 bills it."""
    assert byte_size(value) == text


def test_a_time_is_shown_in_utc_and_read_by_machines() -> None:
    """Whichever zone it comes in."""
    moment = datetime(2026, 11, 28, 13, 0, 5, tzinfo=timezone(timedelta(hours=1)))
    assert when(moment) == '<time datetime="2026-11-28T12:00:05+00:00">2026-11-28 12:00:05 UTC</time>'
    assert when(moment.isoformat()) == when(moment.astimezone(UTC))


def test_a_text_that_is_no_time_is_shown_as_it_is() -> None:
    """And is not taken for markup: it is a plain text, which the template escapes."""
    assert when("<b>yesterday</b>") == "<b>yesterday</b>"
    assert not hasattr(when("<b>yesterday</b>"), "__html__")
