"""Which records a run takes: `selection_of_run` decides it by the run's type."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from mnist_ops.domain.arrivals import selection_of_arrivals
from mnist_ops.domain.errors import Permanent, UsageError
from mnist_ops.domain.moments import iso_moment
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.selection import Reclassify, Selection, whole_milliseconds

Interval = tuple[datetime, datetime]

# How a run can come about, in the words of Airflow's DagRunType.
SCHEDULED = "scheduled"
ASSET_TRIGGERED = "asset_triggered"
BACKFILL = "backfill"
# The button "Materialize" of an asset shows the form, too.
MANUAL = frozenset({"manual", "operator_triggered", "asset_materialization"})

_REASONS = f"({'|'.join(Reason)})"
# What `parse_reclassify` takes, for a form: the form and the API refuse anything else before a run starts.
RECLASSIFY_PATTERN = f"^(never|stale|changed|all|failed(: ?{_REASONS}(, ?{_REASONS})*)?)$"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What Airflow says of a run.

    Attributes:
        run_type: how it came about.
        run_after: when it was due (UTC).
        interval: its data interval, where it has one.
        logical_date: its logical date, where it has one.
        clear_number: how often the run was cleared; a backfill that reprocesses a run clears it.
    """

    run_type: str
    run_after: datetime
    interval: Interval | None = None
    logical_date: datetime | None = None
    clear_number: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for in the form, by the API, or in a backfill's configuration.

    Attributes:
        since: take records created at or after this (UTC).
        until: take records created before this (UTC).
        reclassify: which records are taken besides those that wait.
        limit: at most this many records.
        preview: only count them.
    """

    since: datetime | None = None
    until: datetime | None = None
    reclassify: Reclassify = Reclassify.NEVER
    reasons: frozenset[Reason] = frozenset()
    limit: int | None = None
    preview: bool = False


def selection_of_run(
    facts: RunFacts, request: Request, at: datetime, infer: Callable[[datetime], Interval]
) -> Selection:
    """Decide which records a run takes.

    A scheduled run takes every waiting record created before its interval's end, so that late arrivals are
    never missed. A run that arriving records have woken takes every waiting record, also one that is dated a
    little ahead, since a website's clock may be. A backfill takes its interval. A manual run takes the form's
    window; without one, the interval that the API gave (one that Airflow inferred from the logical date does
    not count as given); otherwise everything so far.

    Args:
        facts: what Airflow says of the run.
        request: what a person asked for; not used for scheduled and asset-triggered runs.
        at: the selection time.
        infer: the interval that Airflow would infer for a logical date.

    Raises:
        Permanent: an unknown kind of run, a backfill without an interval or with a parameter that is only
            for runs by hand, or an empty window.
    """
    moment = whole_milliseconds(at)
    if facts.run_type == ASSET_TRIGGERED:
        return selection_of_arrivals(at)
    if facts.run_type == SCHEDULED:
        return Selection(at=moment, until=facts.interval[1] if facts.interval else facts.run_after)
    if facts.run_type == BACKFILL:
        _refuse_what_is_for_runs_by_hand(request)
        if facts.interval is None:
            raise Permanent("a backfill run without a data interval: the DAG's timetable must give one")
        since, until = facts.interval
    elif facts.run_type in MANUAL:
        since, until = _manual_window(facts, request, infer)
    else:
        raise Permanent(f"run_type {facts.run_type!r}: unknown; expected a DagRunType of Airflow 3.3")
    return Selection(
        at=moment,
        since=since,
        until=until,
        reclassify=request.reclassify,
        limit=request.limit,
        reasons=request.reasons,
    )


def _refuse_what_is_for_runs_by_hand(request: Request) -> None:
    window = [name for name in ("since", "until") if getattr(request, name) is not None]
    if window:
        raise UsageError(
            f"{', '.join(window)}: not for a backfill, whose runs take their own data intervals; "
            "leave it empty and choose the dates of the backfill"
        )
    if request.preview:
        raise UsageError("dry_run: not for a backfill; count in a run by hand, with since and until")


def reprocessing_lines(facts: RunFacts, request: Request) -> list[str]:
    """What a person should know who reprocesses runs that are done, and did not say `reclassify`."""
    if facts.run_type != BACKFILL or not facts.clear_number or request.reclassify != Reclassify.NEVER:
        return []
    return [
        "This backfill ran again without `reclassify`, so it takes only records that still wait.",
        "Records that have a prediction or failed for good stay as they are. To take them again:",
        'a backfill with `reclassify` and "Override parameters on existing runs" ticked.',
    ]


def _manual_window(
    facts: RunFacts, request: Request, infer: Callable[[datetime], Interval]
) -> tuple[datetime | None, datetime]:
    if request.since is not None or request.until is not None:
        return request.since, request.until or facts.run_after
    interval, logical_date = facts.interval, facts.logical_date
    if interval is None or logical_date is None or interval[0] == interval[1]:
        return None, facts.run_after
    return interval if interval != infer(logical_date) else (None, facts.run_after)


def moment_of(text: str | None, name: str) -> datetime | None:
    """A point in time from a form or the API; see `mnist_ops.domain.moments.iso_moment`."""
    return None if text is None else iso_moment(text, name)
