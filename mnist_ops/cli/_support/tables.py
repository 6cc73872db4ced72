"""Tables on standard output, whole on any terminal and in any pipe."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

# Columns keep their natural width: a terminal wraps long lines, and no cell is shortened.
_WIDTH = 10_000


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = (), title: str = ""
) -> None:
    """Print rows in aligned columns under a header.

    Args:
        header: the names of the columns.
        rows: a text for each column; square brackets are printed as they are.
        right: the columns that are aligned to the right.
        title: printed above the table; empty for none.
    """
    table = _table(title)
    for name in header:
        table.add_column(name, justify="right" if name in right else "left")
    _print(table, rows)


def print_facts(facts: Iterable[tuple[str, str]], *, indent: int = 0) -> None:
    """Print names and values in two aligned columns, `indent` spaces from the margin."""
    table = _table()
    table.show_header = False
    table.add_column()
    table.add_column()
    _print(table, facts, indent)


def _table(title: str = "") -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, title=title or None, title_justify="left")


def _print(table: "Table", rows: Iterable[Sequence[str]], indent: int = 0) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    for row in rows:
        table.add_row(*map(Text, row))  # a plain string would be read as markup
    console = Console(width=_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(Padding(table, (0, 0, 0, indent), expand=False))
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())
