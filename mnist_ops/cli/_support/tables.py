"""Tables on standard output, whole on any terminal and in any pipe."""

from collections.abc import Collection, Iterable, Sequence

import typer

# Columns keep their natural width: a terminal wraps long lines, and no cell is shortened.
_WIDTH = 10_000


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    title: str = "",
    indent: int = 0,
) -> None:
    """Print rows in aligned columns under a header.

    Args:
        header: the names of the columns; not printed if all are empty.
        rows: a text for each column; square brackets are printed as they are.
        right: the columns that are aligned to the right.
        title: printed above the table; empty for none.
        indent: spaces before every line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, because a plain string would be read as markup. Tabs are expanded, or rich measures them wrongly.
    table = Table(box=None, pad_edge=False, show_header=any(header), title_justify="left")
    table.title = Text(title) if title else None
    for name in header:
        table.add_column(Text(name), justify="right" if name in right else "left")
    for row in rows:
        table.add_row(*(Text(cell.expandtabs()) for cell in row))
    console = Console(width=_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(" " * indent + line.rstrip())


def print_facts(facts: Iterable[tuple[str, str]], *, indent: int = 0) -> None:
    """Print names and values in two aligned columns."""
    print_table(("", ""), facts, indent=indent)
