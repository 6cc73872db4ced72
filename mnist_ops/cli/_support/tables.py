"""Tables on standard output, whole on any terminal and in any pipe."""

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns keep their natural width: the terminal wraps long lines, and no cell is shortened.
_WIDTH = 10_000


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = (), title: str = ""
) -> None:
    """Print rows in aligned columns under a header.

    Args:
        header: the names of the columns.
        rows: a text for each column; square brackets are shown as they are.
        right: the columns that are aligned to the right.
        title: printed above the table; empty for none.
    """
    table = _empty(title)
    for name in header:
        table.add_column(name, justify="right" if name in right else "left")
    _print(table, rows)


def print_facts(facts: Iterable[tuple[str, str]], title: str = "") -> None:
    """Print names and values in two aligned columns without a header."""
    table = _empty(title)
    table.show_header = False
    table.add_column()
    table.add_column()
    _print(table, facts)


def _empty(title: str) -> Table:
    return Table(box=None, pad_edge=False, title=title or None, title_justify="left")


def _print(table: Table, rows: Iterable[Sequence[str]]) -> None:
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=_WIDTH, highlight=False).print(table)
