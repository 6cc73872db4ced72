"""Publish: predictions and failures into the records, by compare-and-set; an outcome shard a part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mnist_ops.domain.errors import Damaged, OutcomeUnknown, Permanent, Transient
from mnist_ops.domain.keys import digest_in_name
from mnist_ops.domain.manifest import Manifest
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import ObjectStore, RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import (
    Change,
    Prediction,
    PredictionFailure,
    PredictionStamp,
    RecordHead,
)
from mnist_ops.domain.retry_policy import failure_after
from mnist_ops.domain.review import ReviewReason
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts import read_manifest
from mnist_ops.steps.assess import read_assessment
from mnist_ops.steps.parts import read_part
from mnist_ops.steps.shards import Row, ShardHeader, ShardWriter, open_shard, require_rows_of

RECORDS_PER_BULK = 1_000
# A bulk whose reply was lost is read back and, where it did not arrive, sent again this often.
_SENDS = 3


def publish(predictions_uri: str, assessment_uri: str, *, records: RecordStore, objects: ObjectStore) -> str:
    """Write one part's predictions and failures into its records.

    A write happens only while the record is as it was snapshotted, so that a second publish of
    the same shard, an older run, or a late one changes nothing. Whatever did not match is read
    back: this generation's own mark is success, anything else a conflict, nothing there is gone.
    Where the assessment holds the run, predictions stay unwritten; failures are written anyway.

    Args:
        predictions_uri: the prediction shard.
        assessment_uri: the assessment of the generation.
        records: where to write.
        objects: where shards and parts lie.

    Returns:
        The URI of the outcome shard: one row a record, in the part's order.

    Raises:
        Transient: the database did not answer; publishing again is safe.
    """
    assessment = read_assessment(objects, assessment_uri)
    watch = Stopwatch("publish", objects.requests)
    with open_shard(objects, predictions_uri, "predictions") as shard, ShardWriter("outcomes") as outcomes:
        header = shard.header
        if header.manifest != assessment.manifest:
            raise Permanent(f"{assessment_uri}: assesses {assessment.manifest}, not {header.manifest}")
        manifest = read_manifest(objects, header.manifest)
        held = assessment.held_because is not None and assessment.released_by is None
        verdicts = _Verdicts(manifest, digest_in_name(header.manifest), header.labels, held=held)
        part = manifest.part(header.part)
        require_rows_of(part, shard, predictions_uri)
        heads = (records.head(document) for document in read_part(objects, part))
        pairs = zip(heads, shard.rows(), strict=True)
        while batch := list(islice(watch.reads(pairs), RECORDS_PER_BULK)):
            with watch.computing():
                changes = [verdicts.of(head, row) for head, row in batch]
            with watch.writing():
                results = _write(records, [change for change in changes if change is not None])
            for (head, _), change in zip(batch, changes, strict=True):
                outcomes.add(_HELD | {"record_id": head.id_json} if change is None else next(results))
        stages = {**header.stages, "publish": watch.report(outcomes.records)}
        outcome_header = ShardHeader(
            kind="outcomes",
            manifest=header.manifest,
            part=header.part,
            records=outcomes.records,
            failures=outcomes.failures,
            stages=stages,
            held_because=assessment.held_because if held else None,
        )
        return outcomes.store(objects, manifest.generation, outcome_header)


_HELD: Row = {"outcome": str(Outcome.HELD)}


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """Turns the rows of a prediction shard into the changes to write."""

    manifest: Manifest
    snapshot: str
    labels: tuple[str, ...]
    held: bool

    def of(self, head: RecordHead, row: Row) -> Change | None:
        """What to write into a record; None for a prediction that is held."""
        if head.id_json != row["record_id"]:
            raise Damaged(f"part of {self.snapshot}: record {head.id_json} stands beside {row['record_id']}")
        if row["reason"] is not None:
            return Change(head, self._failure(head, row))
        return None if self.held else Change(head, self._prediction(row))

    def _failure(self, head: RecordHead, row: Row) -> PredictionFailure:
        retry_after_s = row["retry_after_s"]
        return failure_after(
            head,
            Reason(str(row["reason"])),
            str(row["detail"]),
            generation=self.manifest.generation,
            at=self.manifest.at,
            retry_after_s=retry_after_s if isinstance(retry_after_s, float) else None,
        )

    def _prediction(self, row: Row) -> Prediction:
        if self.manifest.champion is None:
            raise Permanent(f"{self.snapshot}: predictions without a pinned bundle")
        probabilities: list[float] = row["probabilities"]  # type: ignore[assignment]
        index: int = row["index"]  # type: ignore[assignment]
        reason = row["review_reason"]
        return Prediction(
            label=self.labels[index],
            index=index,
            confidence=probabilities[index],
            probabilities=dict(zip(self.labels, probabilities, strict=True)),
            review_reason=None if reason is None else ReviewReason(str(reason)),
            model=self.manifest.champion,
            image_url=str(row["url"]),
            image_sha256=str(row["sha256"]),
            generation=self.manifest.generation,
            snapshot=f"sha256:{self.snapshot}",
            at=self.manifest.at,
        )


def _write(records: RecordStore, changes: Sequence[Change]) -> Iterator[Row]:
    """Write a bulk; yields an outcome row a change, in order."""
    outcomes: dict[int, Row] = {}
    pending = dict(enumerate(changes))
    for _ in range(_SENDS):
        if not pending:
            break
        outcomes |= _send(records, pending)
        pending = {position: change for position, change in pending.items() if position not in outcomes}
    if pending:
        raise Transient(f"{len(pending)} writes did not arrive in {_SENDS} sends; publish again")
    return (outcomes[position] for position in range(len(changes)))


def _send(records: RecordStore, pending: dict[int, Change]) -> dict[int, Row]:
    """Send changes once; returns the outcomes that are certain."""
    positions, changes = list(pending), list(pending.values())
    outcomes: dict[int, Row] = {}
    try:
        report = records.apply(changes)
    except OutcomeUnknown:
        now = records.heads([change.head.id_json for change in changes])
        for position, change in pending.items():
            outcome = _read_back(change, now.get(change.head.id_json))
            if outcome is not None:
                outcomes[position] = outcome
        return outcomes
    for place, words in report.refused.items():
        outcomes[positions[place]] = _refused(records, changes[place], words)
    if report.matched + len(report.refused) == len(changes):
        return {position: _done(change) for position, change in pending.items()} | outcomes
    unsettled = {position: change for position, change in pending.items() if position not in outcomes}
    now = records.heads([change.head.id_json for change in unsettled.values()])
    for position, change in unsettled.items():
        # It was answered and did not match, so even a record that looks unchanged now was not written.
        outcomes[position] = _read_back(change, now.get(change.head.id_json)) or _row(
            change, Outcome.CONFLICT
        )
    return outcomes


def _read_back(change: Change, now: RecordHead | None) -> Row | None:
    """The outcome of a change as the record shows it; None where the change can still be made."""
    if now is None:
        return _row(change, Outcome.GONE)
    if carries(change, now):
        return _done(change)
    if unchanged(change.head, now):
        return None
    return _row(change, Outcome.CONFLICT)


def carries(change: Change, now: RecordHead) -> bool:
    """Whether a record carries exactly what a change writes."""
    outcome = change.outcome
    if isinstance(outcome, PredictionFailure):
        return (now.failure.run, now.failure.last_at) == (outcome.run, outcome.last_at)
    mine = PredictionStamp(outcome.generation.run, outcome.generation.number, outcome.model.digest)
    return now.stamp == mine


def unchanged(then: RecordHead, now: RecordHead) -> bool:
    """Whether a record is, in all that a write depends on, as it was snapshotted."""
    return (then.image_url, then.label, then.stamp, then.failure) == (
        now.image_url,
        now.label,
        now.stamp,
        now.failure,
    )


def _refused(records: RecordStore, change: Change, words: str) -> Row:
    """Quarantine a record whose write the database refused; its failure may be refused as well."""
    if isinstance(change.outcome, Prediction):
        failure = failure_after(
            change.head,
            Reason.WRITE_REFUSED,
            words,
            generation=change.outcome.generation,
            at=change.outcome.at,
        )
        records.apply([Change(change.head, failure)])
    row = _row(change, Outcome.QUARANTINED)
    return row | {"reason": str(Reason.WRITE_REFUSED), "detail": words}


def _done(change: Change) -> Row:
    if isinstance(change.outcome, Prediction):
        return _row(change, Outcome.PREDICTED)
    final = change.outcome.next_attempt_at is None
    return _row(change, Outcome.QUARANTINED if final else Outcome.RETRY_LATER)


def _row(change: Change, outcome: Outcome) -> Row:
    row: Row = {"record_id": change.head.id_json, "outcome": str(outcome)}
    if isinstance(change.outcome, PredictionFailure):
        row |= {"reason": str(change.outcome.reason), "detail": change.outcome.detail}
    return row
