"""The outcome of every record of a generation, counted: the ledger, and its law of conservation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.stages import StageReport


class Outcome(StrEnum):
    """What became of one selected record; each ends in exactly one."""

    PREDICTED = "predicted"
    QUARANTINED = "quarantined"
    RETRY_LATER = "retry_later"
    HELD = "held"
    CONFLICT = "conflict"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """How many of a run's records may fail before its predictions are held.

    Attributes:
        share: the largest share of failures that is published, 0 to 1.
        minimum_records: below this many records the budget does not apply.
    """

    share: float = 0.20
    minimum_records: int = 50

    def exceeded(self, failed: int, records: int) -> bool:
        """Whether `failed` of `records` are too many."""
        return records >= self.minimum_records and failed > self.share * records


@dataclass(frozen=True, slots=True)
class Assessment:
    """Whether a generation's predictions may be published.

    Attributes:
        manifest: the URI of the snapshot's manifest.
        records: records in all prediction shards.
        failures: of them, failures by reason.
        held_because: why the predictions are held; None when they may be published.
        released_by: who released a held run; None where nobody had to.
    """

    manifest: str
    records: int
    failures: Mapping[str, int]
    held_because: str | None = None
    released_by: str | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The outcome of every record of a generation, counted.

    Attributes:
        generation: whose it is.
        manifest: the URI of its snapshot's manifest.
        selection: the rule, as JSON-able values.
        model: the pinned bundle; None for an empty snapshot.
        selected: records in the snapshot.
        outcomes: records by outcome; every outcome is named, zeros too.
        reasons: failures by reason.
        superseded: of the records written, those that something later has changed since.
        missing_parts: parts of the snapshot without an outcome shard.
        lost_writes: record ids (canonical Extended JSON) whose outcome MongoDB does not show, the
            first few; a sound run has none.
        stages: time, bytes and requests by step, summed over the parts.
        held_because: why predictions were held, if they were.
        finished_at: when it was drawn up (UTC).
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
    lost_write_count: int = field(default=0)

    def imbalance(self) -> str | None:
        """What does not add up, with the numbers; None when everything does."""
        complaints = []
        accounted = sum(self.outcomes.values())
        if accounted != self.selected:
            sums = " + ".join(f"{count} {name}" for name, count in self.outcomes.items())
            complaints.append(f"selected {self.selected} records, but {sums} = {accounted}")
        if self.missing_parts:
            complaints.append(f"no outcome of part {', '.join(map(str, self.missing_parts))}")
        if self.lost_write_count:
            examples = ", ".join(self.lost_writes)
            complaints.append(
                f"{self.lost_write_count} reported outcomes are not in MongoDB, such as those of {examples}"
            )
        return "; ".join(complaints) or None

    def document(self) -> dict[str, object]:
        """As values that MongoDB and JSON take."""
        return {
            "run": self.generation.run,
            "generation": self.generation.number,
            "manifest": self.manifest,
            "selection": dict(self.selection),
            "model": (
                {"name": self.model.name, "version": self.model.version, "digest": self.model.digest}
                if self.model
                else None
            ),
            "selected": self.selected,
            "outcomes": dict(self.outcomes),
            "reasons": dict(self.reasons),
            "superseded": self.superseded,
            "imbalance": self.imbalance(),
            "missing_parts": list(self.missing_parts),
            "lost_writes": list(self.lost_writes),
            "stages": {
                name: report.document() | {"rate": round(report.rate, 1)}
                for name, report in self.stages.items()
            },
            "s3_requests": dict(
                sum((Counter(report.s3_requests) for report in self.stages.values()), Counter())
            ),
            "bytes": sum(report.bytes for report in self.stages.values()),
            "held_because": self.held_because,
            "finished_at": self.finished_at,
        }
