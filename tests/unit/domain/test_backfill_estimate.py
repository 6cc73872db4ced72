"""Estimates of a backfill from the ledgers of former runs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_ops.domain.backfill_estimate import UNSEEN_S, Estimate, PastRun, estimate, past_runs
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.selection import Reclassify
from mnist_ops.domain.stages import StageReport

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
PRICES = Prices(s3_reads=1.0, cpu_hour=0.0)


def run(records: int, *, waited_s: float = 10.0, policy: Reclassify = Reclassify.NEVER) -> PastRun:
    """A run of Airflow: 2 s and 0.01 s a record in fetch, 300 bytes an image, 5 requests and one a record."""
    seconds = 2 + 0.01 * records
    fetch = StageReport(
        "fetch", records, seconds=seconds, bytes=300 * records, s3_requests={"GetObject": 5 + records}
    )
    return PastRun(records, policy, seconds + waited_s, {"fetch": fetch})


def estimated(runs: list[PastRun], windows: list[int], active: int = 1, policy: str = "never") -> Estimate:
    """An estimate, which there must be."""
    found = estimate(runs, windows, reclassify=Reclassify(policy), max_active_runs=active, prices=PRICES)
    assert found is not None
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=3, unique=True), st.lists(st.integers(1, 100_000)))
def test_exact_runs_give_an_exact_estimate(sizes: list[int], windows: list[int]) -> None:
    """The fixed part and the part of each record are told apart."""
    found = estimated([run(size) for size in sizes], windows)
    total = sum(windows)
    assert found.image_bytes.about == pytest.approx(300 * total)
    assert found.s3_requests.about == pytest.approx(5 * len(windows) + total)
    assert found.stage_seconds["fetch"].about == pytest.approx(2 * len(windows) + 0.01 * total, abs=1e-6)
    assert found.cost.about == pytest.approx((5 * len(windows) + total) / 1000)
    assert found.elapsed_s is not None
    assert found.elapsed_s.about == pytest.approx((12 + UNSEEN_S) * len(windows) + 0.01 * total, abs=1e-6)


def test_runs_of_one_size_are_scaled_by_their_records() -> None:
    """Their fixed part cannot be told apart."""
    assert estimated([run(100)] * 3, [50]).s3_requests.about == pytest.approx(105 / 2)


def test_the_spread_is_that_of_the_former_runs() -> None:
    """Most of ten runs took what the fit says, one half of it, one twice as much."""
    runs = [
        PastRun(100, Reclassify.NEVER, None, {"fetch": StageReport("fetch", 100, bytes=size)})
        for size in (500, *[1000] * 8, 2000)
    ]
    found = estimated(runs, [100]).image_bytes
    assert (found.low, found.about, found.high) == pytest.approx((950, 1050, 1100))


@pytest.mark.parametrize(("active", "longest"), [(1, 4), (2, 2), (3, 2), (4, 1), (100, 1)])
def test_windows_share_the_time_of_the_active_runs(active: int, longest: int) -> None:
    """Four equal windows, one after the other in each of the slots."""
    alone = estimated([run(10), run(20), run(30)], [10]).elapsed_s
    found = estimated([run(10), run(20), run(30)], [10] * 4, active).elapsed_s
    assert alone is not None
    assert found is not None
    assert found.about == pytest.approx(longest * alone.about)


def test_empty_windows_take_what_empty_runs_took() -> None:
    """A run without records skips most of its tasks."""
    empty = PastRun(0, Reclassify.NEVER, 3.0, {"snapshot": StageReport("snapshot", s3_requests={"Get": 2})})
    found = estimated([run(10), run(20), run(30), empty], [0, 0])
    assert found.elapsed_s is not None
    assert found.elapsed_s.about == pytest.approx(2 * (3 + UNSEEN_S))
    assert found.s3_requests.about == pytest.approx(4)


def test_a_run_that_waited_for_a_person_does_not_count_for_the_time() -> None:
    """It was held overnight."""
    usual = [run(10), run(20), run(30)]
    with_one_held = [*usual, run(20, waited_s=40_000)]
    assert estimated(with_one_held, [20]).elapsed_s == estimated(usual, [20]).elapsed_s


def test_without_a_run_of_airflow_the_time_is_not_known() -> None:
    """Runs of the command line have no tasks to wait for."""
    runs = [PastRun(each.records, each.reclassify, None, each.stages) for each in (run(1), run(2), run(3))]
    assert estimated(runs, [5]).elapsed_s is None


def test_fewer_than_three_runs_with_records_are_too_few() -> None:
    """Empty ones do not count."""
    empty = PastRun(0, Reclassify.NEVER, 1.0, {})
    runs = [run(10), run(20), empty, empty]
    assert estimate(runs, [5], reclassify=Reclassify.NEVER, max_active_runs=1, prices=PRICES) is None


def test_runs_that_reclassified_count_for_a_backfill_that_does() -> None:
    """If there are enough of them; else all count, and the estimate says so."""
    waiting = [run(10), run(20), run(30)]
    bare = PastRun(10, Reclassify.ALL, 5.0, {"fetch": StageReport("fetch", 10)})
    few = estimated([*waiting, bare, bare], [10], policy="stale")
    enough = estimated([*waiting, bare, bare, bare], [10], policy="stale")
    assert (few.runs, few.like) == (5, False)
    assert (enough.runs, enough.like, enough.image_bytes.about) == (3, True, 0)


def test_a_ledger_is_read_with_its_times_and_stages() -> None:
    """A red run, and one that was held, are left out."""
    report = StageReport("fetch", 10, seconds=2.5, s3_requests={"GetObject": 3})
    ledger = {
        "run": "classify_records/x",
        "selection": {"at": AT.isoformat(), "reclassify": "all"},
        "selected": 10,
        "stages": {"fetch": report.document() | {"rate": 4.0, "other_s": 0.1}},
        "finished_at": AT + timedelta(seconds=30),
        "over_budget": False,
        "imbalance": None,
    }
    of_cli = {**ledger, "run": "cli/x"}
    held, red = {**ledger, "over_budget": True}, {**ledger, "imbalance": "no outcome of part 1"}
    expected = PastRun(10, Reclassify.ALL, 30.0, {"fetch": report})
    assert past_runs([ledger, held, red]) == [expected]
    assert past_runs([of_cli])[0].elapsed_s is None
