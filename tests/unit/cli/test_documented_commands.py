"""Every command that the documentation, a message or the Makefile names exists and takes what it is given."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from mnist_ops.cli import app

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
SOURCES = [
    *PAGES,
    ROOT / "Makefile",
    *(ROOT / "docs" / "decisions").glob("*.md"),
    *(file for folder in ("mnist_ops", "plugins", "dags") for file in (ROOT / folder).rglob("*.py")),
]
# A group and its command, or a verb; then come arguments, or the rest of the sentence.
_BEFORE = r"(?:^[ \t]*|[`\"'(]|bin/|\$ |: |run |command |scheduler )"
_NAMED = re.compile(_BEFORE + r"mnist-ops ([a-z]+)(?: ([a-z][a-z-]+))?", re.MULTILINE)
_PROMPT = r"^\s*\$ (?:\.venv/bin/|docker compose exec \S+ )?mnist-ops "
_TYPED = re.compile(_PROMPT + r"((?:.*\\\n)*.*)", re.MULTILINE)
ROOT_COMMAND = typer.main.get_command(app)


def named(text: str) -> Iterator[tuple[str, str]]:
    """The first two words of each command that a text names; the second may be empty."""
    for match in _NAMED.finditer(text):
        yield match[1], match[2] or ""


def typed(text: str) -> Iterator[str]:
    """The arguments of each command that a page shows behind a prompt, as a shell takes them."""
    for match in _TYPED.finditer(text):
        yield match[1].replace("\\\n", " ")


def exists(first: str, second: str) -> bool:
    """Whether there is such a command; after a verb, the second word is an argument."""
    command = ROOT_COMMAND.commands.get(first)
    if isinstance(command, TyperGroup) and second:
        return second in command.commands
    return command is not None


def test_every_command_that_is_named_exists() -> None:
    """In documentation, docstrings and messages."""
    assert [
        (str(file.relative_to(ROOT)), *words)
        for file in SOURCES
        for words in named(file.read_text(encoding="utf-8"))
        if not exists(*words)
    ] == []


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_behind_a_prompt_is_used_correctly(file: Path) -> None:
    """Its options exist, and its arguments can be parsed."""
    for line in typed(file.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        context, command = None, ROOT_COMMAND
        while isinstance(command, TyperGroup):
            context = command.make_context(words[0], words, parent=context)
            _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(line, words, parent=context).close()


def test_the_documentation_names_every_group_and_verb() -> None:
    """The page of the command line is complete."""
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for name, command in ROOT_COMMAND.commands.items():
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}` |")), None)
        if not isinstance(command, TyperGroup):
            assert f"`{name}`" in page
        elif name != "steps":
            assert row is not None, name
            assert {verb for verb in command.commands if f"`{verb}`" not in row} == set()


def test_an_old_name_would_be_found() -> None:
    """The patterns see commands in sentences, messages and behind prompts."""
    text = "run `mnist-ops ledgers --short`:\n$ .venv/bin/mnist-ops run classify \\\n  --limit 3  # now\n"
    more = 'mnist-ops start all\n  mnist-ops stop\n(f"mnist-ops runs release {run}")\n'
    assert [*named(text)] == [("ledgers", ""), ("run", "classify")]
    assert [*named(more)] == [("start", "all"), ("stop", ""), ("runs", "release")]
    assert not any(exists(*words) for words in named(more))
    assert not any(exists(*words) for words in named(text))
    assert [shlex.split(line, comments=True) for line in typed(text)] == [["run", "classify", "--limit", "3"]]
