"""The check of plain words finds a banned word, and knows where a word is allowed."""

import pytest

from tests.support.plain_words import found_in


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("docs/page.md", "The rest is fetched anew."),  # in prose
        ("mnist_ops/steps/any.py", "def merit_of(trial): ..."),  # part of an identifier
        ("mnist_ops/adapters/http/any.py", "window = read()"),  # banned in fetching alone
        ("mnist_ops/domain/retention.py", "swept = 3"),
    ],
)
def test_a_banned_word_is_found_with_its_file_and_line(name: str, line: str) -> None:
    """And with what to say instead."""
    (found,) = found_in(name, f"one\n{line}\n")
    assert found.startswith(f"{name}:2: ")
    assert "say: " in found


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plugins/mnist_airflow/windows.py", "window = interval"),
        ("mnist_ops/vision/config/sweep.py", "sweep = trials"),
        ("mnist_ops/vision/config/schema.py", "patience: int"),
        ("docs/page.md", "A standalone stack, and renewed bundles."),  # words that only contain a banned one
    ],
)
def test_a_word_is_allowed_elsewhere(name: str, line: str) -> None:
    """A standard term of one subject may be an odd word in another."""
    assert found_in(name, line) == []
