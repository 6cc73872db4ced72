"""The ledger's counts, which must add up, and the failure budget."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import FailureBudget, Ledger, Outcome
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.stages import StageReport

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
counts = st.fixed_dictionaries({str(outcome): st.integers(0, 10_000) for outcome in Outcome})


def ledger(selected: int, outcomes: dict[str, int], **other: object) -> Ledger:
    """Return a ledger in which nothing is missing, unless `other` says otherwise."""
    values: dict[str, object] = {
        "generation": Generation("dag/run"),
        "manifest": "s3://bucket/manifest.json",
        "selection": {"limit": None},
        "model": BundleRef("lenet5", 7, "s3://bucket/models", "sha256:abc"),
        "reasons": {},
        "superseded": 0,
        "missing_parts": [],
        "lost_writes": [],
        "stages": {},
        "held_because": None,
        "finished_at": AT,
        "refers_to": [],
    }
    return Ledger(selected=selected, outcomes=outcomes, **(values | other))


def test_the_outcomes_are_the_six_of_the_design() -> None:
    """Every record ends in one of them."""
    assert {str(o) for o in Outcome} == {
        "predicted",
        "quarantined",
        "retry_later",
        "held",
        "conflict",
        "gone",
    }


@given(counts)
def test_a_ledger_balances_when_every_record_has_one_outcome(outcomes: dict[str, int]) -> None:
    """Selected = predicted + quarantined + retry_later + held + conflict + gone."""
    assert ledger(sum(outcomes.values()), outcomes).imbalance() is None


@given(counts, st.integers(-100, 100).filter(bool))
def test_a_ledger_that_does_not_add_up_says_so_with_its_numbers(outcomes: dict[str, int], off: int) -> None:
    """One record too many or too few is enough."""
    total = sum(outcomes.values())
    problem = ledger(total + off, outcomes).imbalance()
    assert problem is not None
    assert str(total + off) in problem
    assert f"= {total}" in problem


def test_a_missing_part_is_named() -> None:
    """Also where its records would not be missed in the sum."""
    problem = ledger(0, {}, missing_parts=[3, 5]).imbalance()
    assert problem is not None
    assert "3, 5" in problem


def test_lost_writes_are_counted_with_examples() -> None:
    """A write that the database does not show is a fault, even if the sum is right."""
    problem = ledger(9, {"predicted": 9}, lost_writes=['"a"'], lost_write_count=9).imbalance()
    assert problem is not None
    assert "9 reported outcomes" in problem
    assert '"a"' in problem


def test_an_empty_ledger_balances() -> None:
    """A run without records is valid."""
    assert ledger(0, {str(outcome): 0 for outcome in Outcome}, model=None).imbalance() is None


def test_a_ledger_names_model_rates_and_requests() -> None:
    """One document answers the usual questions about a run."""
    stage = StageReport("fetch", records=30, seconds=2.0, bytes=500, s3_requests={"GetObject": 2})
    other = StageReport("publish", records=30, seconds=1.0, bytes=7, s3_requests={"GetObject": 1})
    document = ledger(30, {"predicted": 30}, stages={"fetch": stage, "publish": other}).document()
    assert document["model"] == {"name": "lenet5", "version": 7, "digest": "sha256:abc"}
    assert document["stages"]["fetch"]["rate"] == 15.0  # type: ignore[index]
    assert document["s3_requests"] == {"GetObject": 3}
    assert document["bytes"] == 507


def test_a_ledger_names_the_runs_bottleneck() -> None:
    """The step with the most task-seconds, and what it spent them on."""
    fetch = StageReport("fetch", seconds=6.0, read_s=5.0)
    publish = StageReport("publish", seconds=2.0, write_s=2.0)
    document = ledger(30, {"predicted": 30}, stages={"publish": publish, "fetch": fetch}).document()
    assert document["bottleneck"] == {
        "stage": "fetch",
        "share": 0.75,
        "doing": "reading from the image servers",
    }
    assert ledger(0, {}).document()["bottleneck"] is None


def test_a_ledger_estimates_its_cost() -> None:
    """By the work of all its steps, for the records it selected."""
    fetch = StageReport("fetch", s3_requests={"PutObject": 500}, cpu_s=1800.0)
    classify = StageReport("classify", s3_requests={"PutObject": 500}, gpu_s=3600.0, s3_sent=7, s3_received=9)
    document = ledger(500, {"predicted": 500}, stages={"fetch": fetch, "classify": classify}).document()
    assert document["cost"]["total"] == pytest.approx(0.005 + 0.0252 + 0.526)  # type: ignore[index]
    assert document["cost"]["per_1000_records"] == pytest.approx(2 * 0.5562)  # type: ignore[index]
    assert (document["cpu_s"], document["gpu_s"]) == (1800.0, 3600.0)
    assert (document["s3_sent"], document["s3_received"]) == (7, 9)


def test_a_ledger_is_json_apart_from_its_time() -> None:
    """The command line prints it."""
    assert json.loads(json.dumps(ledger(0, {}).document(), default=str))["selected"] == 0


@pytest.mark.parametrize(
    ("failed", "records", "exceeded"),
    [
        (49, 49, False),
        (50, 50, True),
        (10, 50, False),
        (11, 50, True),
        (20, 100, False),
        (21, 100, True),
        (0, 100, False),
        (0, 0, False),
        (1, 1, False),
    ],
)
def test_the_budget_is_a_fifth_from_fifty_records_up(failed: int, records: int, exceeded: bool) -> None:
    """Exactly a fifth is within it."""
    assert FailureBudget().exceeded(failed, records) is exceeded


def test_a_budget_of_everything_never_holds_and_one_of_nothing_holds_at_the_first_failure() -> None:
    """Both ends can be set."""
    assert not FailureBudget(share=1.0).exceeded(1_000, 1_000)
    assert FailureBudget(share=0.0, minimum_records=0).exceeded(1, 1)
    assert not FailureBudget(share=0.0, minimum_records=0).exceeded(0, 0)
