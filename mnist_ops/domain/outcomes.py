"""The ledger: the outcome of every record of a generation, counted; the counts must add up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from mnist_ops.domain.ages import AgeSummary
from mnist_ops.domain.failure_examples import FailureExamples
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.prices import Cost, Prices
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.stages import StageReport


class Outcome(StrEnum):
    """The outcome of a selected record; every record has exactly one."""

    PREDICTED = "predicted"
    QUARANTINED = "quarantined"
    RETRY_LATER = "retry_later"
    HELD = "held"
    CONFLICT = "conflict"
    GONE = "gone"

    @property
    def failed(self) -> bool:
        """Whether the record counts as a failure of the run."""
        return self in (Outcome.QUARANTINED, Outcome.RETRY_LATER)


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """How many of a run's records may fail; with more failures it is red, and its predictions are held.

    Attributes:
        share: the largest share of failures with which predictions are published, 0 to 1.
        minimum_records: below this many records the budget does not apply.
    """

    share: float = 0.20
    minimum_records: int = 50

    def exceeded(self, failed: int, records: int) -> bool:
        """Whether `failed` of `records` exceed the budget."""
        return records >= self.minimum_records and failed > self.share * records

    def excess(self, failures: Mapping[str, int], records: int) -> str | None:
        """By how much failures, counted by reason, exceed the budget; None if they do not."""
        failed = sum(failures.values())
        if not self.exceeded(failed, records):
            return None
        causes = ", ".join(f"{count} {reason}" for reason, count in Counter(failures).most_common())
        return (
            f"{failed} of {records} records failed ({causes}), more than the budget of {self.share * 100:g}%"
        )


@dataclass(frozen=True, slots=True)
class Assessment:
    """Whether a generation's predictions may be published.

    Attributes:
        manifest: the URI of the snapshot's manifest.
        records: records in all prediction shards.
        failures: of them, those with a reason, by reason.
        stage: the report of assess, without the upload of the assessment itself.
        held_because: by how much the run is over its failure budget, so that its predictions are held, if it
            has any; None if it is within the budget.
        released_by: who released a held run; None if it was not held, or is not released.
    """

    manifest: str
    records: int
    failures: Mapping[str, int]
    stage: StageReport
    held_because: str | None = None
    released_by: str | None = None

    @property
    def over_budget(self) -> bool:
        """Whether the run is over its failure budget, also if it was released."""
        return self.held_because is not None

    @property
    def held(self) -> bool:
        """Whether predictions are held: the run is over its budget, and nobody has released it."""
        return self.over_budget and self.released_by is None

    def document(self) -> dict[str, object]:
        """As JSON-able values."""
        return asdict(self) | {"stage": self.stage.document()}

    @staticmethod
    def of(document: Mapping[str, object]) -> "Assessment":
        """Read back what `document` gave.

        Raises:
            KeyError, TypeError: it is not the document of an assessment.
        """
        values: dict[str, Any] = dict(document)
        return Assessment(stage=StageReport.of(values.pop("stage")), **values)


@dataclass(frozen=True, slots=True)
class HoldRelease:
    """Who allowed a run over its failure budget to be published.

    Attributes:
        by: a person's name.
        why: the reason, one line.
        at: when (UTC).
    """

    by: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Ledger:
    """The outcome of every record of a generation, counted.

    Attributes:
        generation: the generation.
        manifest: the URI of its snapshot's manifest.
        selection: its selection, as JSON-able values.
        model: the pinned bundle; None for an empty snapshot.
        selected: records in the snapshot.
        outcomes: records by outcome; every outcome is named, zeros too.
        reasons: failures by reason.
        superseded: of the records written, those whose outcome a later run or a deletion has replaced.
        missing_parts: parts of the snapshot without an outcome shard.
        lost_writes: ids (canonical Extended JSON) of records that do not show the outcome that was written,
            up to 5. There should be none.
        stages: the reports by step, summed over the parts.
        held_because: by how much the run is over its failure budget, unless somebody released it.
        finished_at: when the ledger was written (UTC).
        refers_to: the URIs of all shards and assessments that the outcomes come from: gc keeps these only.
        lost_write_count: the number of all such records.
        prices: the price list for the estimated cost.
        labels: the records whose outcome is `predicted`, by label. Held predictions are not in MongoDB, so
            they are not counted.
        needs_review: of these records, those whose prediction is marked for review.
        examples: of each reason up to 3 failed records.
        over_budget: whether the run is over its failure budget, also if it was released.
        age: how old the records were when they got their first prediction; None if none got one.
        freshness_s: the freshness objective for the p95 of `age`, in seconds; None if there is none, and for
            a run over a window of the past, such as a backfill.
    """

    generation: Generation
    manifest: str
    selection: Mapping[str, object]
    model: BundleRef | None
    selected: int
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    superseded: int
    missing_parts: Sequence[int]
    lost_writes: Sequence[str]
    stages: Mapping[str, StageReport]
    held_because: str | None
    finished_at: datetime
    refers_to: Sequence[str]
    lost_write_count: int = 0
    prices: Prices = field(default_factory=Prices)
    labels: Mapping[str, int] = field(default_factory=dict)
    needs_review: int = 0
    examples: FailureExamples = field(default_factory=dict)
    over_budget: bool = False
    age: AgeSummary | None = None
    freshness_s: float | None = None

    @property
    def work(self) -> StageReport:
        """The reports of all steps, summed."""
        return sum(self.stages.values(), StageReport("run"))

    @property
    def cost(self) -> Cost:
        """The estimated cost of the run."""
        return self.prices.cost(self.work, self.selected)

    def bottleneck(self) -> dict[str, object] | None:
        """The step that took the most task-seconds, and what it spent them on; None if no step took any."""
        seconds = self.work.seconds
        if not seconds:
            return None
        slowest = max(self.stages.values(), key=lambda report: report.seconds)
        share = round(slowest.seconds / seconds, 3)
        return {"stage": slowest.stage, "share": share, "doing": slowest.bottleneck}

    def freshness(self) -> dict[str, object] | None:
        """The objective in seconds, and whether the ages meet it; None where it does not apply."""
        if self.age is None or self.freshness_s is None:
            return None
        return {"objective_s": self.freshness_s, "met": self.age.p95 <= self.freshness_s}

    def imbalance(self) -> str | None:
        """What does not add up, with the numbers; None if everything adds up."""
        return "; ".join(self.problems()) or None

    def problems(self) -> list[str]:
        """Each thing that does not add up, with the numbers; the cause first."""
        problems = []
        if self.missing_parts:
            problems.append(f"no outcome of part {', '.join(map(str, self.missing_parts))}")
        accounted = sum(self.outcomes.values())
        if accounted != self.selected:
            sums = " + ".join(f"{count} {name}" for name, count in self.outcomes.items())
            problems.append(f"selected {self.selected} records, but {sums} = {accounted}")
        if self.lost_write_count:
            examples = ", ".join(self.lost_writes)
            problems.append(
                f"{self.lost_write_count} reported outcomes are not in MongoDB, such as those of {examples}"
            )
        return problems

    def document(self) -> dict[str, object]:
        """As values that MongoDB and JSON can store."""
        work = self.work
        return {
            "run": self.generation.run,
            "dag": self.generation.dag,
            "generation": self.generation.number,
            "manifest": self.manifest,
            "selection": dict(self.selection),
            "model": self.model.identity() if self.model else None,
            "selected": self.selected,
            "outcomes": dict(self.outcomes),
            "reasons": dict(self.reasons),
            "examples": {reason: [*map(dict, ones)] for reason, ones in self.examples.items()},
            "labels": dict(self.labels),
            "needs_review": self.needs_review,
            "age_s": self.age.document() if self.age else None,
            "freshness": self.freshness(),
            "superseded": self.superseded,
            "imbalance": self.imbalance(),
            "missing_parts": list(self.missing_parts),
            "lost_writes": list(self.lost_writes),
            "stages": {
                name: report.document()
                | {"rate": round(report.rate, 1), "other_s": round(abs(report.other_s), 3)}
                for name, report in self.stages.items()
            },
            "bottleneck": self.bottleneck(),
            "s3_requests": dict(work.s3_requests),
            "bytes": work.bytes,
            "s3_sent": work.s3_sent,
            "s3_received": work.s3_received,
            "cpu_s": round(work.cpu_s, 3),
            "gpu_s": round(work.gpu_s, 3),
            "cost": self.cost.document(),
            "refers_to": list(self.refers_to),
            "held_because": self.held_because,
            "over_budget": self.over_budget,
            "finished_at": self.finished_at,
        }
