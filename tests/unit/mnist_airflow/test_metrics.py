"""Which metrics there are of a step and of a run, and that metrics never fail a step."""

import logging
from dataclasses import replace

import pytest

from mnist_airflow.metrics import Metric, ledger_metrics, send, stage_metrics
from mnist_ops.domain.ages import AgeSummary
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.domain.stages import StageReport
from tests.unit.domain.test_outcomes import ledger

TAGS = {"dag_id": "classify_records", "task_id": "reconcile"}
REPORT = StageReport(
    "fetch", records=20, seconds=4.0, read_s=3.0, compute_s=0.5, write_s=0.25, bytes=900, cpu_s=1.5
)
RUN: Ledger = replace(
    ledger(10, {"predicted": 7, "quarantined": 2, "retry_later": 1, "held": 0}),
    reasons={"not_found": 2, "timeout": 1},
    needs_review=3,
    age=AgeSummary(7, 4.2, 11.0, 14.0),
    freshness_s=60.0,
    stages={"fetch": REPORT},
)


class Sent:
    """In place of Airflow's module: keeps what is sent."""

    def __init__(self) -> None:
        self.counters: dict[str, float] = {}
        self.gauges: dict[str, float] = {}

    def incr(self, stat: str, count: float, *, tags: dict[str, str]) -> None:
        """Add to a counter."""
        assert tags == TAGS
        self.counters[stat] = count

    def gauge(self, stat: str, value: float, *, tags: dict[str, str]) -> None:
        """Set a gauge."""
        assert tags == TAGS
        self.gauges[stat] = value


class Broken:
    """In place of Airflow's module: its backend raises."""

    def incr(self, stat: str, count: float, *, tags: dict[str, str]) -> None:
        """Raise."""
        raise ValueError("the collector is gone")

    gauge = incr


def test_a_step_sends_its_records_bytes_and_times() -> None:
    """All are counters: those of several parts, and of several workers, add up."""
    sent = Sent()
    send(stage_metrics(REPORT), TAGS, sent)
    assert sent.counters == {
        "mnist_ops.fetch.records": 20,
        "mnist_ops.fetch.bytes": 900,
        "mnist_ops.fetch.seconds": 4.0,
        "mnist_ops.fetch.read_s": 3.0,
        "mnist_ops.fetch.compute_s": 0.5,
        "mnist_ops.fetch.write_s": 0.25,
        "mnist_ops.fetch.cpu_s": 1.5,
    }
    assert sent.gauges == {}


def test_a_run_sends_its_outcomes_failures_ages_and_cost() -> None:
    """Counters of 0 too: Prometheus sees no increase in a series that begins at 1. Ages are gauges."""
    sent = Sent()
    send(ledger_metrics(RUN), TAGS, sent)
    cost = sent.counters.pop("mnist_ops.run.cost")
    assert cost == pytest.approx(RUN.cost.total)
    assert cost > 0
    assert sent.counters == {
        "mnist_ops.run.outcomes.predicted": 7,
        "mnist_ops.run.outcomes.quarantined": 2,
        "mnist_ops.run.outcomes.retry_later": 1,
        "mnist_ops.run.outcomes.held": 0,
        "mnist_ops.run.failures.not_found": 2,
        "mnist_ops.run.failures.timeout": 1,
        "mnist_ops.run.needs_review": 3,
        "mnist_ops.freshness.late_runs": 0,
    }
    assert sent.gauges == {
        "mnist_ops.run.age_p50_s": 4.2,
        "mnist_ops.run.age_p95_s": 11.0,
        "mnist_ops.run.age_max_s": 14.0,
        "mnist_ops.run.freshness_objective_s": 60.0,
        "mnist_ops.run.late": 0,
    }


@pytest.mark.parametrize(("freshness_s", "late"), [(10.0, 1), (11.0, 0), (None, None)])
def test_a_run_that_is_held_to_the_objective_says_whether_it_met_it(freshness_s, late) -> None:
    """A backfill has no objective, and large ages: it must not look like a late run."""
    sent = Sent()
    send(ledger_metrics(replace(RUN, freshness_s=freshness_s)), TAGS, sent)
    assert str(sent.gauges.get("mnist_ops.run.late")) == str(late)


def test_a_run_without_ages_leaves_the_gauges_as_they_are() -> None:
    """No record got its first prediction: 0 would say that they got it at once."""
    sent = Sent()
    send(ledger_metrics(replace(RUN, age=None, freshness_s=None)), TAGS, sent)
    assert sent.gauges == {}


def test_a_backend_that_raises_fails_no_step(caplog: pytest.LogCaptureFixture) -> None:
    """The log says that the metrics are missing."""
    with caplog.at_level(logging.ERROR):
        send([Metric("mnist_ops.fetch.records", 1)], TAGS, Broken())
    assert [record.getMessage() for record in caplog.records] == ["metrics were not sent"]
