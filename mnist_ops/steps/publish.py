"""Publish: predictions and failures are written into the records, by compare-and-set."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from mnist_ops.domain.ages import AgeHistogram, age_s
from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import digest_in_name
from mnist_ops.domain.manifest import Manifest
from mnist_ops.domain.outcome_lines import (
    age_lines,
    counted,
    failure_lines,
    log_lines,
    prediction_lines,
    wrapped,
)
from mnist_ops.domain.outcomes import Assessment, Outcome
from mnist_ops.domain.ports import ObjectStore, RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import Change, Prediction, PredictionFailure, RecordHead
from mnist_ops.domain.retry_policy import Attempt, failure_after
from mnist_ops.domain.review import ReviewReason
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.artifacts.row_counts import by_label
from mnist_ops.steps.artifacts.shard_kinds import (
    OUTCOMES,
    PREDICTIONS,
    OutcomeRow,
    PredictedRow,
    PredictionRow,
    UnpredictedRow,
)
from mnist_ops.steps.artifacts.shards import ShardHeader, ShardWriter, open_shard, require_rows_of
from mnist_ops.steps.assess import read_assessment
from mnist_ops.steps.write_back import WriteBack

_log = logging.getLogger(__name__)

RECORDS_PER_BULK = 1_000
# While a batch is written, 1 more is prepared: memory is bounded.
_BATCHES_AHEAD = 1
_HELD, _PREDICTED = str(Outcome.HELD), str(Outcome.PREDICTED)
_Pair = tuple[RecordHead, PredictionRow]
# The columns of a prediction shard that publish reads.
_COLUMNS = [
    "record_id",
    "url",
    "reason",
    "detail",
    "retry_after_s",
    "sha256",
    "probabilities",
    "index",
    "review_reason",
]


def publish(
    predictions_uri: str,
    assessment_uri: str,
    *,
    records: RecordStore,
    objects: ObjectStore,
    now: Callable[[], datetime],
) -> str:
    """Write one part's predictions and failures into its records.

    A record is written only if it is as it was when the snapshot was taken. So publishing a shard again, or
    publishing late, changes nothing. A record that did not match is read back: if it has the mark of this
    generation, it was written before; if it has changed, the outcome is `conflict`; if it is missing, `gone`.
    If the assessment holds the run, its predictions are not written; its failures are. In a run over its
    budget, failures that one wrong setting or one outage can cause are retried, also if it was released.

    Args:
        predictions_uri: the prediction shard.
        assessment_uri: the assessment of the generation.
        records: the store to write to.
        objects: the store of shards and parts.
        now: the wall clock (UTC), for the ages of records at publication.

    Returns:
        The URI of the outcome shard: one row a record, in the part's order.

    Raises:
        Transient: the database did not answer; publishing again is safe.
    """
    watch = Stopwatch("publish", objects.requests, objects.moved)
    assessment = read_assessment(objects, assessment_uri)
    with open_shard(objects, predictions_uri, PREDICTIONS) as shard, ShardWriter(OUTCOMES) as outcomes:
        header = shard.header
        if header.manifest != assessment.manifest:
            raise Permanent(f"{assessment_uri}: assesses {assessment.manifest}, not {header.manifest}")
        manifest = read_manifest(objects, header.manifest)
        builder = _ChangeBuilder(manifest, digest_in_name(header.manifest), header.labels, assessment)
        part = manifest.part(header.part)
        require_rows_of(part, shard, predictions_uri)
        heads = (records.head(document) for document in read_part(objects, part))
        batches = _batches(zip(heads, shard.rows(_COLUMNS), strict=True))
        counts, ages = outcomes.counts, AgeHistogram()
        for row, outcome, age in _outcomes(watch.reads(batches), builder, records, watch, now):
            outcomes.add(outcome, row["url"])
            counts.add_outcome(outcome["outcome"], row)
            if age is not None:
                ages.add(age)
        stages = {**header.stages, "publish": watch.report(outcomes.records)}
        outcome_header = ShardHeader(
            kind=OUTCOMES.name,
            manifest=header.manifest,
            part=header.part,
            records=outcomes.records,
            failures=dict(counts.failures),
            stages=stages,
            held_because=assessment.held_because if assessment.held else None,
            source=predictions_uri,
            refers_to=(predictions_uri, *header.refers_to),
            assessment=assessment_uri,
            examples=counts.examples,
            predicted=by_label(counts.predictions, header.labels),
            needs_review=counts.needs_review,
            ages=ages,
        )
        log_lines(_log, wrapped(f"{outcomes.records} records: {counted(counts.outcomes)}"))
        log_lines(_log, prediction_lines(outcome_header.predicted, outcome_header.needs_review))
        log_lines(_log, age_lines(ages.summary()))
        log_lines(_log, failure_lines(outcome_header.failures, outcome_header.examples))
        return outcomes.store(objects, manifest.generation, outcome_header)


def _batches(pairs: Iterator[_Pair]) -> Iterator[list[_Pair]]:
    while batch := list(islice(pairs, RECORDS_PER_BULK)):
        yield batch


def _outcomes(
    batches: Iterator[list[_Pair]],
    builder: "_ChangeBuilder",
    records: RecordStore,
    watch: Stopwatch,
    now: Callable[[], datetime],
) -> Iterator[tuple[PredictionRow, OutcomeRow, float | None]]:
    """Write batch after batch, and prepare the next one meanwhile; each record's rows and age, in order.

    The age in seconds is that at which a record got its first prediction: when the database had confirmed
    the batch. It is None for records that had a prediction before, or have none now.
    """
    # For each batch that is not finished: its pairs, each with whether its prediction is held.
    unfinished: deque[list[tuple[_Pair, bool]]] = deque()
    with WriteBack(records) as writer:

        def finished() -> Iterator[tuple[PredictionRow, OutcomeRow, float | None]]:
            with watch.writing():
                written = iter(writer.outcomes())
            published_at = now()
            for (head, row), held in unfinished.popleft():
                outcome: OutcomeRow = {"record_id": head.id_json, "outcome": _HELD} if held else next(written)
                first = outcome["outcome"] == _PREDICTED and head.prediction is None
                yield row, outcome, age_s(head.created_at, published_at) if first else None

        for batch in batches:
            with watch.computing():
                changes = [builder.change(head, row) for head, row in batch]
                unfinished.append(
                    [(pair, change is None) for pair, change in zip(batch, changes, strict=True)]
                )
                writer.send([change for change in changes if change is not None])
            if len(writer) > _BATCHES_AHEAD:
                yield from finished()
        while unfinished:
            yield from finished()


@dataclass(frozen=True, slots=True)
class _ChangeBuilder:
    """Turns the rows of a prediction shard into changes of their records.

    Attributes:
        manifest: the snapshot's.
        snapshot: the sha256 of the manifest.
        labels: the names of the classes, by index.
        assessment: says whether predictions are held, and failures retried.
    """

    manifest: Manifest
    snapshot: str
    labels: tuple[str, ...]
    assessment: Assessment

    def change(self, head: RecordHead, row: PredictionRow) -> Change | None:
        """What to write into a record; None if its prediction is held."""
        if head.id_json != row["record_id"]:
            raise Damaged(f"part of {self.snapshot}: record {head.id_json} is paired with {row['record_id']}")
        if row["reason"] is not None:
            return Change(head, self._failure(head, row))
        return None if self.assessment.held else Change(head, self._prediction(row))

    def _failure(self, head: RecordHead, row: UnpredictedRow) -> PredictionFailure:
        attempt = Attempt(self.manifest.generation, self.manifest.at, self.assessment.over_budget)
        reason, wait_s = Reason(row["reason"]), row["retry_after_s"]
        return failure_after(head, reason, row["detail"], attempt, retry_after_s=wait_s)

    def _prediction(self, row: PredictedRow) -> Prediction:
        if self.manifest.champion is None:
            raise Permanent(f"{self.snapshot}: predictions without a pinned bundle")
        probabilities, index, review_reason = row["probabilities"], row["index"], row["review_reason"]
        return Prediction(
            label=self.labels[index],
            index=index,
            confidence=probabilities[index],
            probabilities=dict(zip(self.labels, probabilities, strict=True)),
            review_reason=None if review_reason is None else ReviewReason(review_reason),
            model=self.manifest.champion,
            image_url=row["url"],
            image_sha256=row["sha256"],
            generation=self.manifest.generation,
            snapshot=f"sha256:{self.snapshot}",
            at=self.manifest.at,
        )
