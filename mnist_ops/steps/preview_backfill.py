"""Preview of a backfill: the records that each of its runs would take now, and what all of it takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mnist_ops.domain.backfill_estimate import Estimate, PastRun, estimate
from mnist_ops.domain.backfill_windows import (
    BackfillRequest,
    Window,
    backfill_command,
    backfill_document,
    backfill_windows,
)
from mnist_ops.domain.errors import Transient, UsageError
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.selection import Selection
from mnist_ops.steps.cron_schedule import CronSchedule

Count = Callable[[Selection], int]
CountWithin = Callable[[Selection, float], int]


@dataclass(frozen=True, slots=True)
class CountedWindow:
    """The window of one run, and the number of records that it would take now."""

    window: Window
    records: int


@dataclass(frozen=True, slots=True)
class BackfillPreview:
    """What a backfill would do.

    Attributes:
        request: what was asked for.
        schedule: the DAG's cron expression.
        windows: one for each run, oldest first.
        document: the body of `POST /api/v2/backfills`.
        estimate: None if there are too few former runs.
        past_runs: the number of former runs with records.
    """

    request: BackfillRequest
    schedule: str
    windows: Sequence[CountedWindow]
    document: dict[str, object]
    estimate: Estimate | None
    past_runs: int

    @property
    def records(self) -> int:
        """The records that all its runs would take."""
        return sum(each.records for each in self.windows)

    @property
    def command(self) -> str:
        """The command line that starts it."""
        return backfill_command(self.document)


def preview_backfill(
    request: BackfillRequest,
    *,
    schedule: str,
    count: Count,
    former: Sequence[PastRun],
    prices: Prices,
    now: datetime,
) -> BackfillPreview:
    """Count what each run of a backfill would take now, and estimate what all of them take.

    The number of records is exact until records are added or deleted, or their labels, predictions or
    failures change.

    Args:
        request: the backfill.
        schedule: the DAG's cron expression.
        count: how many records a snapshot would take.
        former: the runs that the estimate comes from.
        prices: the price list.
        now: the wall clock (UTC).

    Raises:
        UsageError: the schedule has no window in that time, or too many.
    """
    windows = backfill_windows(CronSchedule(schedule), request, now)
    counted = [CountedWindow(window, count(window.selection(request, now))) for window in windows]
    return BackfillPreview(
        request=request,
        schedule=schedule,
        windows=counted,
        document=backfill_document(request, windows),
        estimate=estimate(
            former,
            [each.records for each in counted],
            reclassify=request.reclassify,
            max_active_runs=request.max_active_runs,
            prices=prices,
        ),
        past_runs=sum(1 for run in former if run.records),
    )


def counting_within(count: CountWithin, limit_s: float, clock: Callable[[], float] = time.monotonic) -> Count:
    """The same counts, until `limit_s` seconds have passed; then a UsageError says what to do.

    Args:
        count: counts the records of a window, within a number of seconds, or raises Transient.
        limit_s: how long all counts may take together.
        clock: seconds, monotonic.
    """
    end, counted = clock() + limit_s, 0

    def exceeded() -> UsageError:
        return UsageError(
            f"since, until: {counted} windows were counted in {limit_s:g} s, and there are more; choose "
            "a shorter time, or use `mnist-ops backfills preview`, which has no limit"
        )

    def within(selection: Selection) -> int:
        nonlocal counted
        if (left_s := end - clock()) <= 0:
            raise exceeded()
        try:
            records = count(selection, left_s)
        except Transient as error:
            if clock() < end:
                raise
            raise exceeded() from error
        counted += 1
        return records

    return within
