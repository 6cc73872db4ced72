"""Outcomes as lines for logs, notes and error messages: each under 100 characters, as terminals show them."""

import logging
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain
from typing import Any
from urllib.parse import unquote

from mnist_ops.domain.ages import AgeSummary
from mnist_ops.domain.failure_examples import FailureExample, FailureExamples
from mnist_ops.domain.manifest import Manifest, selection_document
from mnist_ops.domain.records import BundleRef

LONGEST_LINE = 99
NO_RECORDS = "0 records: none was waiting"


def log_lines(log: logging.Logger, lines: Iterable[str], level: int = logging.INFO) -> None:
    """Log each line as a message of its own."""
    for line in lines:
        log.log(level, "%s", line)


def wrapped(text: str, *, whole_words: bool = False) -> list[str]:
    """Break a text into lines; those after the first are indented by 2 spaces.

    With `whole_words`, a line that holds one word, such as a URI, may be longer than others.
    """
    return textwrap.wrap(
        text,
        LONGEST_LINE,
        subsequent_indent="  ",
        break_long_words=not whole_words,
        break_on_hyphens=False,
    )


def command_lines(command: str) -> list[str]:
    """Break a shell command into lines that can be copied together.

    Only a line that holds one word, such as a URI, may be longer than others.
    """
    lines = textwrap.wrap(
        command,
        LONGEST_LINE - len(" \\"),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def run_argument(key: str) -> str:
    """A run key as one word of a shell command: readable, unless a shell or a line break would split that."""
    readable = unquote(key)
    return readable if shlex.quote(readable) == readable else key


def counted(counts: Mapping[str, int]) -> str:
    """Counts by name in words, the largest first; zeros are left out."""
    return ", ".join(f"{counts[name]} {name}" for name in _largest_first(counts) if counts[name])


def _largest_first(counts: Mapping[str, int]) -> list[str]:
    """The names by their counts; those of one count in alphabetical order."""
    return sorted(counts, key=lambda name: (-counts[name], name))


def window_lines(selection: Mapping[str, Any]) -> list[str]:
    """Which records a selection takes.

    Args:
        selection: its JSON-able values, as in manifests and ledgers.
    """
    if selection.get("labelled"):
        return ["all human-labelled records"]
    limits = [f"{name} {_moment(selection[name])}" for name in ("since", "until") if selection.get(name)]
    window = f"created {' '.join(limits)}" if limits else "created at any time"
    policy, reasons = selection.get("reclassify", "never"), ",".join(selection.get("reasons", ()))
    policy = f"{policy}:{reasons}" if reasons else policy
    limit = f"; limit {selection['limit']}" if selection.get("limit") else ""
    return wrapped(f"{window}; reclassify {policy}{limit}")


def _moment(text: object) -> str:
    return datetime.fromisoformat(str(text)).isoformat(timespec="seconds").replace("+00:00", "Z")


def snapshot_lines(manifest: Manifest) -> list[str]:
    """What a snapshot took: records, parts, window and champion."""
    parts, champion = len(manifest.parts), manifest.champion
    in_parts = f"in {parts} parts" if parts > 1 else "in 1 part"
    taken = f"{manifest.records} records {in_parts}" if parts else NO_RECORDS
    lines = [taken, *window_lines(selection_document(manifest.selection))]
    return lines if champion is None else [*lines, champion_line(champion)]


def champion_line(champion: BundleRef) -> str:
    """The model that classifies a run's records."""
    return f"champion {champion.name} {champion.version}"


def prediction_lines(labels: Mapping[str, int], needs_review: int) -> list[str]:
    """The predictions by label, and how many of them a person should look at; nothing if there are none."""
    if not any(labels.values()):
        return []
    review = f"needs review: {needs_review} of {sum(labels.values())} predictions"
    return [*wrapped(f"labels: {counted(labels)}"), review]


def age_lines(age: AgeSummary | None) -> list[str]:
    """How old the records were when they got their first prediction; nothing if none got one."""
    return [] if age is None else [f"age at publication: {age}"]


def failure_lines(reasons: Mapping[str, int], examples: FailureExamples) -> list[str]:
    """The failures by reason, then up to 3 examples of each; nothing if there are none."""
    if not any(reasons.values()):
        return []
    lines = wrapped(f"{sum(reasons.values())} failed: {counted(reasons)}")
    for reason in _largest_first(reasons):
        if ones := examples.get(reason):
            lines += [f"{reason}:", *chain.from_iterable(map(_example_lines, ones))]
    return lines


def _example_lines(example: FailureExample) -> list[str]:
    """The example in one line if it fits; else its detail, and if need be its URL, in lines below its id."""
    record = [text for text in (example["record_id"], example["url"]) if text is not None]
    line, detail = f"  {' '.join(record)}", example["detail"] or ""
    if len(f"{line}: {detail}") <= LONGEST_LINE:
        return [f"{line}: {detail}" if detail else line]
    lines = [line]
    if len(line) > LONGEST_LINE:
        lines = [_cut(f"  {record[0]}"), *(_cut(f"    {url}") for url in record[1:])]
    return lines + textwrap.wrap(detail, LONGEST_LINE, initial_indent="    ", subsequent_indent="    ")


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"
