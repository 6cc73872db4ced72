"""Tables are as wide as the terminal, and print every character of their cells."""

from collections.abc import Callable

import pytest

from mnist_ops.cli._support.tables import print_facts, print_table

Printed = Callable[[], list[str]]

WORDS = "a problem that takes a lot of words"
URI = "s3://bucket/" + "x" * 100


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """The lines that were printed; the terminal has 40 columns."""
    monkeypatch.setenv("COLUMNS", "40")
    return lambda: capsys.readouterr().out.splitlines()  # noqa: PLW0108 (read when it is called)


def test_columns_are_aligned_under_their_names(printed: Printed) -> None:
    """A table that fits has its natural width."""
    print_table(("name", "value"), [("a", "1"), ("long name", "22")], right={"value"})
    assert printed() == ["name       value", "a              1", "long name     22"]


def test_a_cell_wraps_between_words(printed: Printed) -> None:
    """In its column, as wide as the terminal allows."""
    print_table(("run", "problem"), [("dag/run/0123456", WORDS), ("dag/other", "none")])
    assert printed() == [
        "run              problem",
        "dag/run/0123456  a problem that takes a",
        "                 lot of words",
        "dag/other        none",
    ]


def test_columns_that_do_not_fit_follow_below_the_first(printed: Printed) -> None:
    """All of them are there, and they stay aligned."""
    rows = [("classify_records/scheduled__2026", "17", WORDS), ("dag/other", "1,000", "none")]
    print_table(("run", "records", "problem"), rows, right={"records"})
    assert printed() == [
        "run",
        "    records  problem",
        "classify_records/scheduled__2026",
        "         17  a problem that takes a lot",
        "             of words",
        "dag/other",
        "      1,000  none",
    ]


def test_a_word_is_never_broken(printed: Printed) -> None:
    """A URI that is longer than a line can be copied in one piece."""
    print_table(("uri", "records"), [(URI, "1")])
    print_facts([("model", "lenet5"), ("bundle", URI)])
    assert printed() == ["uri", "    records", URI, "    1", "model   lenet5", "bundle", f"    {URI}"]


def test_no_line_is_wider_than_the_terminal_where_words_fit(printed: Printed) -> None:
    """Whatever the number of columns; all of them are printed."""
    numbers = range(12)
    print_table([f"column-{number}" for number in numbers], [[f"value {number} of it" for number in numbers]])
    lines = printed()
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines).split()) == " ".join(
        [*(f"column-{number}" for number in numbers), *(f"value {number} of it" for number in numbers)]
    )


def test_without_a_terminal_lines_have_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe or a log."""
    monkeypatch.delenv("COLUMNS", raising=False)
    print_facts([("problem", " ".join(["word"] * 40))])
    assert max(map(len, capsys.readouterr().out.splitlines())) == 78


def test_a_cell_of_blanks_is_an_empty_line(printed: Printed) -> None:
    """A record's text may be nothing else."""
    print_table(("a", "b"), [(" " * 100, "x")])
    print_facts([("blanks", "\t" * 20)])
    assert printed() == ["a" + " " * 38 + "b", " " * 39 + "x", "blanks"]


def test_brackets_and_tabs_are_printed_as_they_are(printed: Printed) -> None:
    """In headers, titles and cells; a tab is expanded to spaces."""
    print_table(("a [b]",), [("[red]c",), ("\t|x",)], title="[bold]t")
    assert printed() == ["[bold]t", "a [b]", "[red]c", "        |x"]


def test_control_characters_are_printed_as_escapes(printed: Printed) -> None:
    """The text of a record cannot clear the screen; lines of a cell stay lines."""
    print_table(("detail",), [("\x1b[2Jred\r\u2028",), ("one\ntwo",)])
    assert printed() == ["detail", r"\x1b[2Jred\r\u2028", "one", "two"]


def test_wide_characters_take_two_columns(printed: Printed) -> None:
    """As a terminal draws them."""
    print_table(("name", "value"), [("七七七七七", "7"), ("abcdefghij", "8")])
    assert printed() == ["name        value", "七七七七七  7", "abcdefghij  8"]


def test_facts_have_no_header(printed: Printed) -> None:
    """Names and values, indented as asked."""
    print_facts([("model", "lenet5 1"), ("status", "champion")], indent=2)
    assert printed() == ["  model   lenet5 1", "  status  champion"]
