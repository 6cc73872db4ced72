"""Outcomes as lines: under 100 characters whatever the records hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.failure_examples import failure_example
from mnist_ops.domain.outcome_lines import (
    LONGEST_LINE,
    command_lines,
    failure_lines,
    prediction_lines,
    window_lines,
)

texts = st.text(max_size=400)


@given(texts, texts, texts)
def test_an_example_is_short_lines_whatever_it_holds(record_id: str, url: str, detail: str) -> None:
    """Ids, URLs and details come from records and servers."""
    lines = failure_lines({"not_found": 1}, {"not_found": [failure_example(record_id, url, detail)]})
    assert [line for line in lines if len(line) > LONGEST_LINE or not line.isprintable()] == []


def test_a_long_example_has_its_detail_below_it_and_a_long_url_is_cut() -> None:
    """The id is whole as long as it fits into a line."""
    example = failure_example('{"$numberInt": "3"}', f"https://images.example/{'a' * 90}.png", "no " * 40)
    assert failure_lines({"timeout": 1}, {"timeout": [example]})[2:] == [
        '  {"$numberInt": "3"}',
        f"    https://images.example/{'a' * 71}…",
        f"    {'no ' * 31}no",
        f"    {'no ' * 7}no",
    ]


def test_a_record_without_a_url_is_an_example_too() -> None:
    """Its URL is missing or not a string."""
    examples = {"invalid_url": [failure_example('"a"', None, "the image URL is missing")]}
    assert failure_lines({"invalid_url": 1}, examples)[2] == '  "a": the image URL is missing'


def test_failures_and_predictions_that_do_not_exist_have_no_line() -> None:
    """A log says what happened."""
    assert failure_lines({}, {}) == prediction_lines({}, 0) == []


@pytest.mark.parametrize(
    ("selection", "line"),
    [
        ({}, "created at any time; reclassify never"),
        ({"labelled": True, "until": "2026-01-31T00:00:00+00:00"}, "all human-labelled records"),
        (
            {"since": "2026-01-30T06:00:00.123000+00:00", "until": "2026-01-31T00:00:00+00:00"},
            "created since 2026-01-30T06:00:00Z until 2026-01-31T00:00:00Z; reclassify never",
        ),
        (
            {"reclassify": "failed", "reasons": ["blocked_address", "not_found"], "limit": 7},
            "created at any time; reclassify failed:blocked_address,not_found; limit 7",
        ),
    ],
)
def test_a_selection_in_words(selection: dict[str, object], line: str) -> None:
    """The window, the policy with its reasons, and the limit."""
    assert window_lines(selection) == [line]


def test_a_long_command_is_continued_so_that_it_can_be_copied_whole() -> None:
    """A shell joins lines that end with a backslash; a URI is never broken."""
    uri = f"s3://bucket/{'a' * 120}"
    assert command_lines(f"mnist-ops runs resume {uri}") == ["mnist-ops runs resume \\", f"  {uri}"]
    assert command_lines("mnist-ops runs list") == ["mnist-ops runs list"]
