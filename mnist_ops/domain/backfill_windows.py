"""What a backfill of `classify_records` would run: its windows, and the command that starts it."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise, takewhile
from typing import Protocol

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.selection import Reclassify, Selection

DAG_ID = "classify_records"
MAX_WINDOWS = 366
MAX_ACTIVE_RUNS = 4  # the default
# Every window runs, also one that has a finished run: Airflow calls it "All Runs".
REPROCESS = "completed"


class Schedule(Protocol):
    """When a DAG is due."""

    @property
    def expression(self) -> str:
        """The schedule as people wrote it."""

    def times(self, since: datetime) -> Iterator[datetime]:
        """The times at which it is due, from `since` (UTC, included) on, without end."""


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """A backfill that somebody thinks of.

    Attributes:
        since: the windows begin at or after this (UTC).
        until: the windows end at or before this (UTC).
        reclassify: which records are taken besides the waiting ones.
        reasons: `failed` takes failures with one of these reasons; empty for any reason.
        limit: each run takes at most this number of records; None for no limit.
        max_active_runs: how many of its runs Airflow lets run at the same time.
    """

    since: datetime
    until: datetime
    reclassify: Reclassify = Reclassify.NEVER
    reasons: frozenset[Reason] = frozenset()
    limit: int | None = None
    max_active_runs: int = MAX_ACTIVE_RUNS

    def __post_init__(self) -> None:
        if self.since >= self.until:
            raise UsageError(
                f"since: {self.since:%Y-%m-%d %H:%M} is not before until: {self.until:%Y-%m-%d %H:%M}; "
                "give an earlier since or a later until"
            )
        if not 1 <= self.max_active_runs <= 100:
            raise UsageError(f"max active runs: {self.max_active_runs}; give a number of 1 to 100")


@dataclass(frozen=True, slots=True)
class Window:
    """The data interval of one run.

    Attributes:
        since: its start (UTC), which is also the run's logical date.
        until: its end (UTC), which is not part of it.
    """

    since: datetime
    until: datetime

    def selection(self, request: BackfillRequest, at: datetime) -> Selection:
        """What its run takes, if it takes its snapshot at `at` (UTC)."""
        return Selection(
            at=at,
            since=self.since,
            until=self.until,
            reclassify=request.reclassify,
            limit=request.limit,
            reasons=request.reasons,
        )


def backfill_windows(schedule: Schedule, request: BackfillRequest, now: datetime) -> list[Window]:
    """The windows that Airflow runs: those of the schedule from `since` to `until` that are over.

    Raises:
        UsageError: there are none, or more than `MAX_WINDOWS`.
    """
    end = min(request.until, now)
    bounds: list[datetime] = []
    for moment in takewhile(lambda moment: moment <= end, schedule.times(request.since)):
        bounds.append(moment)
        if len(bounds) > MAX_WINDOWS + 1:
            raise UsageError(
                f"since, until: more than {MAX_WINDOWS} windows of the schedule {schedule.expression}; "
                "choose a shorter time, and start one backfill after the other"
            )
    # Airflow leaves a window out that ends in this very moment.
    windows = [Window(since, until) for since, until in pairwise(bounds) if until < now]
    if not windows:
        raise UsageError(
            f"since, until: no window of the schedule {schedule.expression} begins and ends between "
            f"{request.since:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC; choose a longer time in the past"
        )
    return windows


def backfill_document(request: BackfillRequest, windows: Sequence[Window]) -> dict[str, object]:
    """The body of `POST /api/v2/backfills`: to_date is the last window's start, since it is included."""
    return {
        "dag_id": DAG_ID,
        "from_date": _iso(windows[0].since),
        "to_date": _iso(windows[-1].since),
        "run_backwards": False,
        "max_active_runs": request.max_active_runs,
        "reprocess_behavior": REPROCESS,
        "dag_run_conf": _conf(request),
    }


def backfill_command(document: Mapping[str, object]) -> str:
    """The command line that starts the backfill of a document."""
    options = {
        "--dag-id": document["dag_id"],
        "--from-date": document["from_date"],
        "--to-date": document["to_date"],
        "--max-active-runs": document["max_active_runs"],
        "--reprocess-behavior": document["reprocess_behavior"],
        "--dag-run-conf": json.dumps(document["dag_run_conf"]),
    }
    words = [word for name, value in options.items() for word in (name, str(value))]
    return shlex.join(["airflow", "backfill", "create", *words])


def _conf(request: BackfillRequest) -> dict[str, object]:
    """Always with `reclassify`: else a run that is done already would keep what its former run was told."""
    reasons = f":{','.join(sorted(request.reasons))}" if request.reasons else ""
    conf: dict[str, object] = {"reclassify": f"{request.reclassify}{reasons}"}
    return conf if request.limit is None else conf | {"limit": request.limit}


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
