"""The variables of a Compose file, read as Docker Compose reads them.

Source: the Compose specification, "Interpolation". `$$` is a dollar; a default may hold variables, and the
first `}` that ends none of those ends the default.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_START = re.compile(r"\$\{(?P<name>\w+)(?P<operator>:[-?])?|\$\$|\$")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable: its name, how it is used (`:-` default, `:?` required, none), and the text after that."""

    name: str
    operator: str | None
    rest: str


def pieces(text: str) -> Iterator[str | Variable]:
    """Split a value into its texts and its variables, without looking into defaults.

    Raises:
        ValueError: a variable is not closed, or has a form that the file does not use, such as `$NAME`.
    """
    at = 0
    while found := _START.search(text, at):
        yield text[at : found.start()]
        at = found.end()
        if found.group() == "$$":
            yield "$"
        elif found["name"]:
            end = _closing_brace(text, at)
            yield Variable(found["name"], found["operator"], text[at:end])
            at = end + 1
        else:
            raise ValueError(f"{text}: a dollar that is neither doubled nor before a brace and a name")
    yield text[at:]


def _closing_brace(text: str, at: int) -> int:
    depth = 1
    for found in re.finditer(r"\$\{|\}", text[at:]):
        depth += 1 if found.group() == "${" else -1
        if depth == 0:
            return at + found.start()
    raise ValueError(f"{text}: a variable is not closed")


def variables(node: Any) -> Iterator[Variable]:
    """Every variable of a parsed file, also those in defaults."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from variables(item)
    elif isinstance(node, str):
        for piece in pieces(node):
            if isinstance(piece, Variable):
                yield piece
                yield from variables(piece.rest if piece.operator == ":-" else None)


def interpolate(node: Any, values: Mapping[str, str]) -> Any:
    """Replace the variables of a parsed file; `scale` becomes a number, as in Compose.

    Raises:
        KeyError: a required variable has no value.
    """
    if isinstance(node, Mapping):
        replaced = {name: interpolate(value, values) for name, value in node.items()}
        return replaced | ({"scale": int(replaced["scale"])} if "scale" in replaced else {})
    if isinstance(node, list):
        return [interpolate(item, values) for item in node]
    if not isinstance(node, str):
        return node
    return "".join(piece if isinstance(piece, str) else _value(piece, values) for piece in pieces(node))


def _value(variable: Variable, values: Mapping[str, str]) -> str:
    if variable.operator == ":?":
        return values[variable.name]
    default: str = interpolate(variable.rest, values)
    return values.get(variable.name) or default
