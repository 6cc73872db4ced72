"""The metrics of the steps, sent through Airflow's own: StatsD, Datadog or OpenTelemetry, whichever is on.

They come from what the steps log and store anyway: the report of each step and the ledger of the run.
StatsD without an extension has no tags, so a metric's name says all that a dashboard needs. Where tags are
on, `dag_id` tells apart the DAGs that people build from our operators. Names, types and units are in
docs/observability.md.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from mnist_ops.domain.outcomes import Ledger
    from mnist_ops.domain.stages import StageReport

_log = logging.getLogger(__name__)


class Stats(Protocol):
    """What is needed of Airflow's module `stats`.

    In a task that is `airflow.sdk.observability.stats`; in the scheduler and the triggerer, which set up only
    their own, `airflow.observability.stats`.
    """

    # Airflow declares whole numbers; its backends take any.
    def incr(self, stat: str, count: Any, *, tags: dict[str, Any]) -> None:  # noqa: ANN401
        """Add to a counter."""

    def gauge(self, stat: str, value: float, *, tags: dict[str, Any]) -> None:
        """Set a gauge."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One value.

    Attributes:
        name: after the prefix of the deployment, `airflow` by default.
        value: in the unit that the name ends with.
        kind: a counter is added to, a gauge is replaced.
    """

    name: str
    value: float
    kind: Literal["counter", "gauge"] = "counter"


def stage_metrics(report: "StageReport") -> Iterator[Metric]:
    """What one step did for one part, or for a whole run."""
    start = f"mnist_ops.{report.stage}"
    yield Metric(f"{start}.records", report.records)
    yield Metric(f"{start}.bytes", report.bytes)
    yield Metric(f"{start}.seconds", report.seconds)
    yield Metric(f"{start}.read_s", report.read_s)
    yield Metric(f"{start}.compute_s", report.compute_s)
    yield Metric(f"{start}.write_s", report.write_s)
    yield Metric(f"{start}.cpu_s", report.cpu_s)


def ledger_metrics(ledger: "Ledger") -> Iterator[Metric]:
    """What became of a run's records, their ages, and the cost of the run."""
    for outcome, count in ledger.outcomes.items():
        yield Metric(f"mnist_ops.run.outcomes.{outcome}", count)
    for reason, count in ledger.reasons.items():
        yield Metric(f"mnist_ops.run.failures.{reason}", count)
    yield Metric("mnist_ops.run.needs_review", ledger.needs_review)
    yield Metric("mnist_ops.run.cost", ledger.cost.total)
    if ledger.age is not None:
        yield Metric("mnist_ops.run.age_p50_s", ledger.age.p50, "gauge")
        yield Metric("mnist_ops.run.age_p95_s", ledger.age.p95, "gauge")
        yield Metric("mnist_ops.run.age_max_s", ledger.age.max, "gauge")
    if ledger.freshness_s is not None:
        yield Metric("mnist_ops.run.freshness_objective_s", ledger.freshness_s, "gauge")
        # The triggerer only adds to it: an increase is seen only from a value that was there before.
        yield Metric("mnist_ops.freshness.late_runs", 0)
    freshness = ledger.freshness()
    if freshness is not None:
        yield Metric("mnist_ops.run.late", int(not freshness["met"]), "gauge")


def late_metrics(oldest_waiting_s: float | None) -> Iterator[Metric]:
    """That a run is late, and how old the oldest waiting record is, in seconds; None if that is not known."""
    yield Metric("mnist_ops.freshness.late_runs", 1)
    if oldest_waiting_s is not None:
        yield Metric("mnist_ops.freshness.oldest_waiting_s", oldest_waiting_s, "gauge")


def send(metrics: Iterable[Metric], tags: Mapping[str, str], stats: Stats) -> None:
    """Send metrics; does nothing where metrics are off, and never raises.

    Args:
        metrics: what to send; also counters of 0, so that their first increase is one.
        tags: for the backends that have tags.
        stats: Airflow's module, of the process that calls.
    """
    try:
        for metric in metrics:
            if metric.kind == "gauge":
                stats.gauge(metric.name, metric.value, tags=dict(tags))
            else:
                stats.incr(metric.name, metric.value, tags=dict(tags))
    except Exception:  # noqa: BLE001 (a step's result matters more than its metrics)
        _log.exception("metrics were not sent")
