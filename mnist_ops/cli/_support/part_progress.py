"""How far the parts of a run have come: a bar on a terminal, otherwise a log line for each part."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_log = logging.getLogger(__name__)


@contextmanager
def part_progress(doing: str, records: Mapping[int, int]) -> Iterator[Callable[[int], None]]:
    """Show on standard error how many parts and records are done; with --quiet nothing.

    Args:
        doing: what is done to the parts, such as "publish".
        records: the number of records of every part, by its number.

    Yields:
        A function to call with the number of each part that is done.
    """
    if sys.stderr.isatty() and _log.isEnabledFor(logging.INFO):
        with part_bar(doing, records, Console(stderr=True)) as done:
            yield done
    else:
        lines = _Lines(doing, records)
        yield lambda part: _log.info("%s", lines.after(part))


@contextmanager
def part_bar(doing: str, records: Mapping[int, int], console: Console) -> Iterator[Callable[[int], None]]:
    """Show a bar on a console; see `part_progress`."""
    lines = _Lines(doing, records)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(lines.line(), total=sum(records.values()))
        yield lambda part: progress.update(task, description=lines.after(part), completed=lines.done)


class _Lines:
    """Counts the parts that are done.

    Attributes:
        done: the number of their records.
    """

    def __init__(self, doing: str, records: Mapping[int, int]) -> None:
        self._doing, self._records = doing, records
        self._parts = 0
        self.done = 0

    def after(self, part: int) -> str:
        """Count a part, and return the line."""
        self._parts += 1
        self.done += self._records[part]
        return self.line()

    def line(self) -> str:
        """The parts and records that are done, in words."""
        parts, records = len(self._records), sum(self._records.values())
        return f"{self._doing}: {self._parts} of {parts} parts, {self.done:,} of {records:,} records"
