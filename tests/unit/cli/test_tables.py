"""Tables print every character of their cells."""

import pytest

from mnist_ops.cli._support.tables import print_facts, print_table


def test_columns_are_aligned_and_nothing_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    """However long a cell is: a pipe has no width."""
    long = "x" * 500
    print_table(("name", "value"), [("a", "1"), (long, "22")], right={"value"})
    assert capsys.readouterr().out.splitlines() == [
        f"name{' ' * 496}  value",
        f"a{' ' * 499}      1",
        f"{long}     22",
    ]


def test_brackets_and_tabs_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """In headers, titles and cells; a tab is expanded to spaces."""
    print_table(("a [b]",), [("[red]c",), ("\t|x",)], title="[bold]t")
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        "[bold]t",
        "a [b]",
        "[red]c",
        "|x",
    ]


def test_facts_have_no_header(capsys: pytest.CaptureFixture[str]) -> None:
    """Names and values, indented as asked."""
    print_facts([("model", "lenet5 1"), ("status", "champion")], indent=2)
    assert capsys.readouterr().out == "  model   lenet5 1\n  status  champion\n"
