"""The outcomes of a generation, counted and compared with the records."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mnist_ops.domain.ages import AgeHistogram
from mnist_ops.domain.failure_examples import FailureExample, add_examples
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.stages import StageReport
from mnist_ops.steps.artifacts.shard_kinds import OutcomeRow
from mnist_ops.steps.artifacts.shards import ShardHeader

_EXAMPLES = 5
_WRITTEN = frozenset({Outcome.PREDICTED, Outcome.QUARANTINED, Outcome.RETRY_LATER})


@dataclass(slots=True)
class OutcomeTally:
    """Counts outcomes, compares each with its record, and adds up the reports of the steps.

    Attributes:
        generation: the generation whose outcomes are counted.
        at: its selection time (UTC).
        parts: the numbers of the parts that have an outcome shard.
        outcomes: records by outcome.
        reasons: failures by reason.
        labels: records whose outcome is `predicted`, by label.
        needs_review: of them, those whose prediction is marked for review.
        examples: of each reason up to 3 failed records.
        ages: the ages at publication of records that got their first prediction.
        superseded: outcomes that something later has replaced in the record.
        lost: ids of records that do not show their outcome, the first 5.
        lost_count: the number of all of them.
        held_because: by how much the run is over its failure budget, unless somebody released it.
        stages: the reports by step, summed over the parts.
        assessments: the URIs of the assessments that the parts were published by.
    """

    generation: Generation
    at: datetime
    parts: set[int] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    needs_review: int = 0
    examples: dict[str, list[FailureExample]] = field(default_factory=dict)
    ages: AgeHistogram = field(default_factory=AgeHistogram)
    superseded: int = 0
    lost: list[str] = field(default_factory=list)
    lost_count: int = 0
    held_because: str | None = None
    stages: dict[str, StageReport] = field(default_factory=dict)
    assessments: dict[str, None] = field(default_factory=dict)
    _references: dict[str, None] = field(default_factory=dict)

    def add_stage(self, report: StageReport) -> None:
        """Add the report of a step."""
        former = self.stages.get(report.stage)
        self.stages[report.stage] = former + report if former else report

    def add_header(self, uri: str, header: ShardHeader) -> None:
        """Add an outcome shard, and the shards that it was made from."""
        self.parts.add(header.part)
        self.held_because = self.held_because or header.held_because
        self.labels.update(header.predicted)
        self.needs_review += header.needs_review
        add_examples(self.examples, header.examples)
        self.ages.merge(header.ages)
        for report in header.stages.values():
            self.add_stage(report)
        if header.assessment is not None:
            self.assessments[header.assessment] = None
        self._references |= dict.fromkeys([uri, *header.refers_to])

    def references(self) -> list[str]:
        """The URIs of all shards and assessments that the outcomes come from."""
        return sorted(self._references | self.assessments)

    def count(self, rows: Sequence[OutcomeRow]) -> list[OutcomeRow]:
        """Count rows; returns those whose outcome was written into the record."""
        self.outcomes.update(row["outcome"] for row in rows)
        self.reasons.update(
            row["reason"] for row in rows if row["reason"] is not None and Outcome(row["outcome"]).failed
        )
        return [row for row in rows if row["outcome"] in _WRITTEN and row["reason"] != Reason.WRITE_REFUSED]

    def verify(self, written: Sequence[OutcomeRow], heads: Mapping[str, RecordHead]) -> None:
        """Compare written outcomes with the records as they are now."""
        for row in written:
            head, predicted = heads.get(row["record_id"]), row["outcome"] == Outcome.PREDICTED
            if head is None:  # deleted since
                self.superseded += 1
                continue
            if self._shows(head, predicted=predicted):
                continue
            # A later prediction replaces a prediction and removes a failure; a later failure replaces one.
            if head.stamp.digest is not None or (head.failure.attempts and not predicted):
                self.superseded += 1
            else:
                self.lost_count += 1
                if len(self.lost) < _EXAMPLES:
                    self.lost.append(head.id_json)

    def _shows(self, head: RecordHead, *, predicted: bool) -> bool:
        """Whether a record has the prediction, or else the failure, of this generation."""
        run, number = self.generation.run, self.generation.number
        if predicted:
            return (head.stamp.run, head.stamp.generation) == (run, number)
        return (head.failure.run, head.failure.last_at) == (run, self.at)
