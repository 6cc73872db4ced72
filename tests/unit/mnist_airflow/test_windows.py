"""Which records a run takes, by the kind of run: the design's table, row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mnist_airflow.windows import (
    ASSET_TRIGGERED,
    BACKFILL,
    MANUAL,
    SCHEDULED,
    Interval,
    Request,
    RunFacts,
    moment_of,
    reprocessing_lines,
    selection_of_run,
)
from mnist_ops.domain.errors import Permanent, UsageError
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.selection import Reclassify, Selection

DAY = timedelta(days=1)
START = datetime(2026, 1, 30, tzinfo=UTC)
END = START + DAY
RUN_AFTER = datetime(2026, 1, 31, 0, 5, tzinfo=UTC)
AT = datetime(2026, 1, 31, 0, 6, 7, 123_456, tzinfo=UTC)
AT_MILLISECONDS = AT.replace(microsecond=123_000)
LOGICAL = datetime(2026, 1, 30, 15, tzinfo=UTC)
ASKED = Request(since=START - 9 * DAY, until=START - 8 * DAY, reclassify=Reclassify.ALL, limit=5)


def inferred(logical_date: datetime) -> Interval:
    """Infer as a daily timetable does: the last whole day before."""
    midnight = logical_date.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - DAY, midnight


def taken(facts: RunFacts, request: Request | None = None) -> Selection:
    """Return what a run takes."""
    return selection_of_run(facts, request or Request(), AT, inferred)


def run(run_type: str, **facts: object) -> RunFacts:
    """Return a run with an interval, unless told otherwise."""
    values: dict[str, object] = {"interval": (START, END), "logical_date": START}
    return RunFacts(run_type, RUN_AFTER, **(values | facts))


# --- scheduled and asset-triggered


def test_a_scheduled_run_takes_everything_before_its_intervals_end() -> None:
    """Late arrivals are never missed: there is no beginning."""
    assert taken(run(SCHEDULED)) == Selection(at=AT_MILLISECONDS, until=END)


def test_without_an_interval_it_takes_everything_before_it_was_due() -> None:
    """A timetable may give none."""
    facts = run(SCHEDULED, interval=None, logical_date=None)
    assert taken(facts) == Selection(at=AT_MILLISECONDS, until=RUN_AFTER)


def test_a_run_that_an_asset_woke_takes_records_dated_a_little_ahead() -> None:
    """A website's clock may be ahead of Airflow's, and no other event comes for such a record."""
    facts = run(ASSET_TRIGGERED, interval=None, logical_date=None)
    assert taken(facts) == Selection(at=AT_MILLISECONDS, until=AT_MILLISECONDS + timedelta(minutes=5))


@pytest.mark.parametrize("run_type", [SCHEDULED, ASSET_TRIGGERED])
def test_nobody_asks_a_scheduled_run_for_anything(run_type: str) -> None:
    """The defaults of the form, whatever they are, do not reach it."""
    assert taken(run(run_type), ASKED) == taken(run(run_type))


# --- backfill


def test_a_backfill_takes_its_interval() -> None:
    """From its start to before its end, so that windows in any order share nothing."""
    assert taken(run(BACKFILL)) == Selection(at=AT_MILLISECONDS, since=START, until=END)


def test_a_backfill_has_reclassify_and_limit_from_its_configuration() -> None:
    """Its window stays its own."""
    assert taken(run(BACKFILL), replace(ASKED, since=None, until=None)) == Selection(
        at=AT_MILLISECONDS, since=START, until=END, reclassify=Reclassify.ALL, limit=5
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Request(since=START), "since: not for a backfill.*choose the dates of the backfill"),
        (Request(until=START), "until: not for a backfill"),
        (Request(since=START, until=END), "since, until: not for a backfill"),
        (Request(preview=True), "dry_run: not for a backfill; count in a run by hand"),
    ],
)
def test_a_backfill_refuses_by_name_what_is_only_for_runs_by_hand(asked: Request, said: str) -> None:
    """It would be ignored, although somebody asked for it."""
    with pytest.raises(UsageError, match=said):
        taken(run(BACKFILL), asked)


@pytest.mark.parametrize(
    ("facts", "asked", "warned"),
    [
        (run(BACKFILL, clear_number=1), Request(), True),
        (run(BACKFILL, clear_number=1), Request(reclassify=Reclassify.STALE), False),
        (run(BACKFILL), Request(), False),
        (run("scheduled", clear_number=1), Request(), False),
        (run("manual", clear_number=1), Request(), False),
    ],
    ids=["reprocessed", "with reclassify", "new", "scheduled and cleared", "by hand and cleared"],
)
def test_only_a_reprocessing_backfill_without_reclassify_is_warned_of(
    facts: RunFacts, asked: Request, warned: bool
) -> None:
    """It takes what still waits, which is seldom what was meant; the lines say how to ask for more."""
    lines = reprocessing_lines(facts, asked)
    assert bool(lines) is warned
    assert all(len(line) < 100 for line in lines)
    assert ('"Override parameters on existing runs"' in " ".join(lines)) is warned


def test_a_backfill_without_an_interval_is_refused() -> None:
    """It would take everything, once a window."""
    with pytest.raises(Permanent, match="timetable"):
        taken(run(BACKFILL, interval=None))


def test_a_backfill_of_a_zero_length_interval_is_refused() -> None:
    """A plain cron string gives such; the run is red instead of empty."""
    with pytest.raises(Permanent, match="since"):
        taken(run(BACKFILL, interval=(START, START)))


# --- manual


@pytest.mark.parametrize("run_type", sorted(MANUAL))
@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (START - DAY, START, (START - DAY, START)),
        (START - DAY, None, (START - DAY, RUN_AFTER)),
        (None, START, (None, START)),
    ],
)
@pytest.mark.parametrize("interval", [None, (START, END), inferred(LOGICAL)])
def test_a_run_by_hand_takes_the_forms_window(
    run_type: str,
    since: datetime | None,
    until: datetime | None,
    expected: tuple[datetime | None, datetime],
    interval: Interval | None,
) -> None:
    """Whatever interval it has; an open end is when the run was due."""
    selection = taken(run(run_type, interval=interval), Request(since=since, until=until))
    assert (selection.since, selection.until) == expected


@pytest.mark.parametrize("run_type", sorted(MANUAL))
def test_without_a_window_it_takes_an_interval_that_was_given_by_the_api(run_type: str) -> None:
    """It is no interval that Airflow would have inferred, so somebody meant it."""
    facts = run(run_type, interval=(START - 3 * DAY, START - DAY), logical_date=LOGICAL)
    selection = taken(facts)
    assert (selection.since, selection.until) == (START - 3 * DAY, START - DAY)


@pytest.mark.parametrize("run_type", sorted(MANUAL))
def test_an_inferred_interval_is_nobodys_wish(run_type: str) -> None:
    """A click on Trigger takes everything so far, not yesterday alone."""
    selection = taken(run(run_type, interval=inferred(LOGICAL), logical_date=LOGICAL))
    assert (selection.since, selection.until) == (None, RUN_AFTER)


@pytest.mark.parametrize(
    "facts",
    [
        run("manual", interval=None, logical_date=None),
        run("manual", interval=None, logical_date=LOGICAL),
        run("manual", interval=(START, END), logical_date=None),
        run("manual", interval=(LOGICAL, LOGICAL), logical_date=LOGICAL),
    ],
    ids=["neither", "no interval", "no logical date", "zero length"],
)
def test_a_run_by_hand_without_a_logical_date_or_interval_takes_everything_so_far(facts: RunFacts) -> None:
    """Airflow 3 has runs without either."""
    selection = taken(facts)
    assert (selection.since, selection.until) == (None, RUN_AFTER)


def test_a_run_by_hand_has_reclassify_and_limit_from_the_form() -> None:
    """Beside its window."""
    selection = taken(run("manual"), ASKED)
    assert (selection.reclassify, selection.limit) == (Reclassify.ALL, 5)


@pytest.mark.parametrize("run_type", ["manual", BACKFILL])
def test_the_reasons_of_failed_reach_the_selection(run_type: str) -> None:
    """Of runs by hand and of backfills."""
    reasons = frozenset({Reason.NOT_FOUND})
    asked = Request(reclassify=Reclassify.FAILED, reasons=reasons)
    selection = taken(run(run_type), asked)
    assert (selection.reclassify, selection.reasons) == (Reclassify.FAILED, reasons)


def test_a_run_by_hand_with_an_empty_window_is_refused() -> None:
    """The message names both ends."""
    with pytest.raises(Permanent, match=r"since.*until"):
        taken(run("manual"), Request(since=START, until=START))


def test_a_beginning_after_the_run_was_due_is_refused() -> None:
    """It would be an empty window."""
    with pytest.raises(Permanent, match="since"):
        taken(run("manual"), Request(since=RUN_AFTER + DAY))


def test_the_infer_function_is_asked_only_where_it_matters() -> None:
    """Not every timetable can infer."""

    def never(logical_date: datetime) -> Interval:
        pytest.fail(f"asked for {logical_date}")

    for facts in (run("scheduled"), run(BACKFILL), run("manual", logical_date=None)):
        selection_of_run(facts, Request(), AT, never)
    selection_of_run(run("manual"), Request(since=START), AT, never)


# --- all kinds


@pytest.mark.parametrize("run_type", ["", "Manual", "asset", "partitioned", "None"])
def test_an_unknown_kind_of_run_is_refused_by_name(run_type: str) -> None:
    """Guessing its window could reclassify a whole collection."""
    with pytest.raises(Permanent, match="run_type"):
        taken(run(run_type))


def test_every_kind_of_run_that_airflow_knows_is_in_the_table() -> None:
    """A new one in a later Airflow is noticed here."""
    from airflow.utils.types import DagRunType  # noqa: PLC0415 (takes seconds)

    assert {kind.value for kind in DagRunType} == MANUAL | {SCHEDULED, ASSET_TRIGGERED, BACKFILL}


@pytest.mark.parametrize("run_type", sorted(MANUAL | {SCHEDULED, ASSET_TRIGGERED, BACKFILL}))
def test_the_selection_time_is_in_whole_milliseconds(run_type: str) -> None:
    """MongoDB holds no more, and it is compared with what it held."""
    assert taken(run(run_type)).at == AT_MILLISECONDS


@pytest.mark.parametrize("run_type", sorted(MANUAL | {SCHEDULED, ASSET_TRIGGERED, BACKFILL}))
def test_a_window_never_takes_labelled_records(run_type: str) -> None:
    """train_lenet asks for exactly that."""
    assert not taken(replace(run(run_type), logical_date=LOGICAL)).labelled


# --- moments from a form or the API


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (None, None),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_a_moment_without_an_offset_is_utc(text: str | None, moment: datetime | None) -> None:
    """And one with an offset is brought to UTC."""
    read = moment_of(text, "since")
    assert read == moment
    assert read is None or read.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-02-30T00:00:00Z",
        "{{ ds }}",
        "$(date)",
        '{"$gt": ""}',
        "99999-01-01",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
    ],
)
def test_what_is_no_moment_is_refused_by_the_parameters_name(text: str) -> None:
    """It is never evaluated, and no other error gets out."""
    with pytest.raises(Permanent, match="since"):
        moment_of(text, "since")


def test_an_offset_of_seconds_is_understood() -> None:
    """Old time zones have such."""
    odd = datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(minutes=53, seconds=28)))
    assert moment_of(odd.isoformat(), "until") == odd
