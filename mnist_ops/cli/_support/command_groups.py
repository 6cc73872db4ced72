"""Groups of commands that answer an unknown command with the nearest ones."""

from collections.abc import Iterator
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup

# What people type, in any group or in the one before it, and what they mean.
_MEANT = MappingProxyType(
    {
        "stack start": "stack up",
        "stack stop": "stack down",
        "start": "stack up",
        "stop": "stack down",
        "ledger": "runs list",
        "ledgers": "runs list",
        "version": "--version",
    }
)
_MOST = 4  # commands that one message suggests


class CommandGroup(TyperGroup):
    """A group whose error for an unknown command names the nearest commands of the whole command line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - Typer keeps both types private
        """Find the command that the arguments name; an unknown one is a usage error."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            nearest = nearest_commands(name, _path(ctx), ctx.find_root().command)
            if nearest:
                hint = f"Did you mean {' or '.join(f'`{each}`' for each in nearest)}?"
            else:
                hint = f"There are: {', '.join(self.commands)}."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)


def command_group(words: str) -> typer.Typer:
    """A new group with this help; without a command it prints it."""
    return typer.Typer(cls=CommandGroup, help=words, no_args_is_help=True)


def nearest_commands(name: str, group: str, root: TyperGroup) -> list[str]:
    """The commands, with their groups, that somebody may mean by a name which a group does not have.

    What is known to be meant; else those of the same name in any group; else those that are spelled alike,
    in this group and then in any.

    Args:
        name: what was typed.
        group: the group's own path, such as "runs"; empty for the root.
        root: the whole command line.
    """
    if name == "help":
        return [f"{group} --help".strip()]
    if meant := _MEANT.get(f"{group} {name}") or _MEANT.get(name):
        return [meant]
    commands = list(_commands(root))
    own = [path for path in commands if path.rpartition(" ")[0] == group]
    for chosen in (
        [path for path in commands if _last(path) == name],
        _alike(name, own),
        _alike(name, commands),
    ):
        if chosen:
            return chosen[:_MOST]
    return []


def _last(path: str) -> str:
    return path.rpartition(" ")[2]


def _alike(name: str, paths: list[str]) -> list[str]:
    close = get_close_matches(name, {_last(path) for path in paths})
    return [path for word in close for path in paths if _last(path) == word]


def _path(ctx: Any) -> str:  # noqa: ANN401 - Typer keeps the type private
    """The groups that led to a context, without the name of the program."""
    return "" if ctx.parent is None else f"{_path(ctx.parent)} {ctx.info_name}".strip()


def _commands(group: TyperGroup, prefix: str = "") -> Iterator[str]:
    """The path of every command and group, such as `runs list`."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        yield f"{prefix}{name}"
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix}{name} ")
