"""Runs as pages show them: ledgers page by page, and one run with its generations and its hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mnist_ops.domain.cursors import LedgerCursor
from mnist_ops.domain.keys import Generation, dag_run_of, run_key
from mnist_ops.domain.outcomes import HoldRelease
from mnist_ops.domain.ports import RunStore

RUNS_PER_PAGE = 50

LedgerDocument = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunList:
    """A page of runs, newest first.

    Attributes:
        ledgers: without `refers_to`.
        following: the position to continue from; None on the last page.
    """

    ledgers: Sequence[LedgerDocument]
    following: str | None


def run_list(runs: RunStore, before: str | None, dag_id: str | None, now: datetime) -> RunList:
    """A page of the finished runs.

    Args:
        runs: the store of ledgers.
        before: the position to continue from; None for the newest runs.
        dag_id: only runs of this DAG; `cli` for those of the command line; None for all.
        now: the time.

    Raises:
        UsageError: `before` is no position.
    """
    place = LedgerCursor.parse(before) if before else None
    folder = dag_id if dag_id == "cli" else dag_id and run_key(dag_id, "").rstrip("/")
    found = runs.newest_ledgers(RUNS_PER_PAGE + 1, place, folder or None, now)
    page = found[:RUNS_PER_PAGE]
    return RunList(page, str(LedgerCursor.of(page[-1])) if len(found) > len(page) else None)


@dataclass(frozen=True, slots=True)
class RunView:
    """One generation of a run.

    Attributes:
        generation: the generation.
        generations: the numbers of all generations of the run, ascending.
        manifest: the URI of its snapshot's manifest.
        ledger: its ledger; None while it is not finished.
        release: who released it from being held, why and when; None if nobody did.
    """

    generation: Generation
    generations: Sequence[int]
    manifest: str
    ledger: LedgerDocument | None
    release: HoldRelease | None

    @property
    def held(self) -> bool:
        """Whether it is over its failure budget, and was not published since it was released."""
        return self.ledger is not None and self.ledger["held_because"] is not None

    @property
    def newest(self) -> bool:
        """Whether there is no later generation, with its own selection of records."""
        return self.generation.number == max(self.generations)

    @property
    def dag_run(self) -> tuple[str, str] | None:
        """The ids of its DAG and DAG run; None for a run of the command line."""
        return dag_run_of(self.generation.run)


def find_run(runs: RunStore, key: str, number: int | None = None) -> RunView | None:
    """A run by its key; None if it has taken no snapshot.

    Args:
        runs: the store of commits and ledgers.
        key: the run key.
        number: of the generation; None for the newest one.
    """
    numbers = runs.generations(key)
    if not numbers or (number is not None and number not in numbers):
        return None
    generation = Generation(key, numbers[-1] if number is None else number)
    manifest = runs.committed(generation)
    if manifest is None:
        return None
    return RunView(generation, numbers, manifest, runs.ledger(generation), runs.hold_release(generation))


def released_by(runs: RunStore, ledger: LedgerDocument) -> str | None:
    """Who released the run of a ledger from being held; None if nobody did."""
    release = runs.hold_release(Generation(ledger["run"], ledger["generation"]))
    return release.by if release else None


def is_newest(runs: RunStore, ledger: LedgerDocument) -> bool:
    """Whether the run of a ledger has no later generation."""
    number: int = ledger["generation"]
    return number == max(runs.generations(ledger["run"]), default=number)
