"""Publish: predictions and failures into the records, by compare-and-set; an outcome shard a part."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import digest_in_name
from mnist_ops.domain.manifest import Manifest
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import ObjectStore, RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import Change, Prediction, PredictionFailure, RecordHead
from mnist_ops.domain.retry_policy import failure_after
from mnist_ops.domain.review import ReviewReason
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.artifacts.shards import Row, ShardHeader, ShardWriter, open_shard, require_rows_of
from mnist_ops.steps.assess import read_assessment
from mnist_ops.steps.write_back import writing_back

RECORDS_PER_BULK = 1_000
# So many batches are ready, or being made ready, while one is written: memory is bounded.
_BATCHES_AHEAD = 1
_HELD = str(Outcome.HELD)
# What a publish needs of a prediction shard.
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
    watch = Stopwatch("publish", objects.requests, objects.moved)
    assessment = read_assessment(objects, assessment_uri)
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
        batches = _batches(zip(heads, shard.rows(_COLUMNS), strict=True))
        for row in _outcomes(watch.reads(batches), verdicts, records, watch):
            outcomes.add(row)
        stages = {**header.stages, "publish": watch.report(outcomes.records)}
        outcome_header = ShardHeader(
            kind="outcomes",
            manifest=header.manifest,
            part=header.part,
            records=outcomes.records,
            failures=outcomes.failures,
            stages=stages,
            held_because=assessment.held_because if held else None,
            source=predictions_uri,
            refers_to=(predictions_uri, *header.refers_to),
            assessment=assessment_uri,
        )
        return outcomes.store(objects, manifest.generation, outcome_header)


def _batches(pairs: Iterator[tuple[RecordHead, Row]]) -> Iterator[list[tuple[RecordHead, Row]]]:
    while batch := list(islice(pairs, RECORDS_PER_BULK)):
        yield batch


def _outcomes(
    batches: Iterator[list[tuple[RecordHead, Row]]],
    verdicts: "_Verdicts",
    records: RecordStore,
    watch: Stopwatch,
) -> Iterator[Row]:
    """Write batch by batch, each prepared while the one before it is written; an outcome row a record."""
    waiting: deque[list[str | None]] = deque()
    with writing_back(records) as writer:

        def written() -> Iterator[Row]:
            with watch.writing():
                rows = iter(writer.outcomes())
            for held in waiting.popleft():
                yield next(rows) if held is None else {"record_id": held, "outcome": _HELD}

        for batch in batches:
            with watch.computing():
                changes = [verdicts.of(head, row) for head, row in batch]
                held = [
                    head.id_json if change is None else None
                    for (head, _), change in zip(batch, changes, strict=True)
                ]
                waiting.append(held)
                writer.send([change for change in changes if change is not None])
            if len(writer) > _BATCHES_AHEAD:
                yield from written()
        while waiting:
            yield from written()


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
