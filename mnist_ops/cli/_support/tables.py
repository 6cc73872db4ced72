"""Tables on standard output as wide as the terminal: cells wrap between words, and no text is cut."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from shutil import get_terminal_size

import typer
from rich.cells import cell_len

_GAP = 2  # spaces between columns
_INDENT = "    "  # of what belongs to the line above it
_NARROWEST, _READABLE = 10, 24  # characters; a column is narrower only if its cells are shorter

Row = Sequence[str]


def print_table(
    header: Row, rows: Iterable[Row], *, right: Collection[str] = (), title: str = "", indent: int = 0
) -> None:
    """Print rows in aligned columns under a header, as wide as the terminal, else 80 characters.

    Columns that do not fit beside the others follow on a line below. A word is never broken: a URI that is
    longer than a line stays in one piece.

    Args:
        header: the names of the columns.
        rows: a text for each column.
        right: the columns that are aligned to the right.
        title: printed above the table; empty for none.
        indent: spaces before every line.
    """
    if title:
        _print(title, indent)
    flags = [name in right for name in header]
    for lines in _row_lines([header, *map(_plain, rows)], flags, _width(indent)):
        for line in lines:
            _print(line, indent)


def print_facts(facts: Iterable[tuple[str, str]], *, indent: int = 0) -> None:
    """Print names and values in two columns; a value with a word that does not fit begins a line below."""
    rows, width = list(map(_plain, facts)), _width(indent)
    names = max((cell_len(name) for name, _ in rows), default=0)
    room = width - names - _GAP
    for name, value in rows:
        if _longest_word(value) <= room:
            lines = _beside_each_other([name, value], [names, room], [False, False])
        else:
            lines = [name, *(_INDENT + line for line in _wrapped(value, width - len(_INDENT)))]
        for line in lines:
            _print(line, indent)


def print_json(document: object) -> None:
    """Print a document as JSON on one line: times are ISO 8601, NaN and infinity, which JSON lacks, null."""
    typer.echo(json.dumps(_finite(document), default=_json_text))


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _print(line: str, indent: int) -> None:
    typer.echo(" " * indent + line.rstrip())


def _width(indent: int) -> int:
    return get_terminal_size().columns - indent


def _plain(row: Row) -> Row:
    """The cells without tabs and control characters: the text of a record must not move the cursor."""
    return ["".join(map(_printable, cell.expandtabs())) for cell in row]


def _printable(character: str) -> str:
    return character if character.isprintable() or character == "\n" else repr(character)[1:-1]


def _row_lines(rows: Sequence[Row], right: Sequence[bool], width: int) -> list[list[str]]:
    """The lines of each row; `right` says for each column whether it is aligned to the right."""
    result: list[list[str]] = [[] for _ in rows]
    for columns in _groups(rows, width):
        indent = _INDENT if columns.start else ""
        part = [row[columns] for row in rows]
        widths = _column_widths(part, width - len(indent))
        for row, lines in zip(part, result, strict=True):
            lines += [indent + line for line in _beside_each_other(row, widths, right[columns])]
    return result


def _groups(rows: Sequence[Row], width: int) -> list[slice]:
    """The columns that are printed beside each other: all of them if they fit, else as many as fit."""
    narrowest = _narrowest(rows, _NARROWEST)
    if _total(narrowest) <= width:
        return [slice(0, len(narrowest))]
    readable = _narrowest(rows, _READABLE)
    groups = [slice(0, 1)]
    for number in range(1, len(readable)):
        start = groups[-1].start
        if _total(readable[start : number + 1]) <= width - (len(_INDENT) if start else 0):
            groups[-1] = slice(start, number + 1)
        else:
            groups.append(slice(number, number + 1))
    return groups


def _column_widths(rows: Sequence[Row], width: int) -> list[int]:
    """The widths with which columns fill `width`, none wider than its cells."""
    full, widths = _narrowest(rows, width), _narrowest(rows, _NARROWEST)
    left = width - _total(widths)
    while left > 0 and (short := [number for number, cells in enumerate(full) if widths[number] < cells]):
        for number in short[:left]:
            widths[number] += 1
        left -= len(short)
    return widths


def _narrowest(rows: Sequence[Row], enough: int) -> list[int]:
    """For each column the width of its longest word, and `enough` if its cells are as wide."""
    return [
        max(*map(_longest_word, column), min(enough, max(map(_longest_line, column))))
        for column in zip(*rows, strict=True)
    ]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _beside_each_other(row: Row, widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """The lines of a row whose columns have these widths."""
    cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    height = max(map(len, cells))
    padded = [
        [_padded(line, width, right=to_right) for line in [*lines, *[""] * (height - len(lines))]]
        for lines, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return [(" " * _GAP).join(line) for line in zip(*padded, strict=True)]


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, broken between words where one is longer than `width`."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = paragraph
        if cell_len(paragraph) > width:
            line = ""
            for word in paragraph.split():
                if line and cell_len(f"{line} {word}") > width:
                    lines.append(line)
                    line = word
                else:
                    line = f"{line} {word}".lstrip()
        lines.append(line)
    return lines


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _longest_line(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)
