"""A page of a run's records, filtered, with probabilities and images: read from its shards in ranges."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.partial_shards import PartialShard, ReadBudget, open_partial_shard
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES, PREDICTIONS, OutcomeRow, PredictionRow
from mnist_ops.steps.artifacts.shards import ShardHeader
from mnist_ops.steps.run_records import PREDICTION_COLUMNS, RunRecord, outcome_shards, run_record
from mnist_ops.steps.stored_images import images_of_rows

MAX_RECORDS = 100
# One page reads this many rows, of this many parts, in search of those that its filter takes; then it says
# how to search on.
_ROWS_SEARCHED, _SHARDS_OPENED = 20_000, 50
_ROWS_AT_ONCE = 1_000
# Bytes of image shards that one page reads, about a second; the images of further records are left out.
_IMAGE_BYTES_READ = 96 << 20
_FAILED = pa.array([str(outcome) for outcome in Outcome if outcome.failed])
_POSITION = re.compile(r"(\d{1,9})-(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a run's records.

    Attributes:
        part: the number of the part.
        row: the number of the record within it, from 0.
    """

    part: int = 0
    row: int = 0

    def __str__(self) -> str:
        return f"{self.part}-{self.row}"

    @staticmethod
    def of(text: str) -> "Position":
        """Read back what `str` gave.

        Raises:
            UsageError: it is no position.
        """
        match = _POSITION.fullmatch(text)
        if match is None:
            raise UsageError(f"{text!r}: not a position in a run, expected <part>-<row>")
        return Position(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which of a run's records are wanted; every condition that is given must hold.

    Attributes:
        outcome: a name of `Outcome`.
        label: the predicted label, also of held predictions.
        reason: a name of `Reason`; only records that failed for it.
        at_least: the lowest confidence, 0 to 1.
        below: what the confidence must be under, 0 to 1.
        needs_review: only predictions that a person should look at.
    """

    outcome: str | None = None
    label: str | None = None
    reason: str | None = None
    at_least: float | None = None
    below: float | None = None
    needs_review: bool = False


@dataclass(frozen=True, slots=True)
class PicturedRecord:
    """A record of a run with what the run saw.

    Attributes:
        record: what the run did with it.
        probabilities: of every class, by name; empty without a prediction.
        payload: the image's bytes as fetched; None if there are none, or if they are not stored any more.
        left_out: whether the image was not read, because the page had read enough.
    """

    record: RunRecord
    probabilities: Mapping[str, float]
    payload: bytes | None
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some records of a run, in the order of its snapshot.

    Attributes:
        records: those that the filter takes.
        searched: the number of records that were looked at, by their rows or by the counts of their part.
        following: where to go on; None at the end of the run.
    """

    records: Sequence[PicturedRecord]
    searched: int
    following: Position | None


def run_page(
    generation: Generation,
    refers_to: Sequence[str],
    *,
    wanted: RecordFilter,
    start: Position,
    limit: int,
    objects: ObjectStore,
) -> RunPage:
    """Read a page of the records of a generation.

    It reads 20,000 rows of 50 parts at most, so that a filter that takes few records costs a bounded time. Of
    parts that have none of them, as their counts say, it reads no row.

    Args:
        generation: the run's.
        refers_to: the URIs of its ledger.
        wanted: which records.
        start: where to begin.
        limit: the number of records, at most 100.
        objects: the store of shards.

    Raises:
        ObjectMissing, Damaged: a shard is missing, or is not what it should be.
    """
    limit = min(limit, MAX_RECORDS)
    page, searched, room = list[PicturedRecord](), 0, _ROWS_SEARCHED
    budget = ReadBudget(_IMAGE_BYTES_READ)
    shards = [one for one in outcome_shards(generation, refers_to).items() if one[0] >= start.part]
    for opened, (number, uri) in enumerate(shards):
        row = start.row if number == start.part else 0
        if len(page) == limit or not room or opened == _SHARDS_OPENED:
            return RunPage(page, searched, Position(number, row))
        with open_partial_shard(objects, uri, OUTCOMES) as outcomes:
            end = outcomes.records
            row = min(row, end)
            if _may_have(outcomes.header, wanted):
                with open_partial_shard(objects, _predictions_of(outcomes, uri), PREDICTIONS) as predictions:
                    part = _Part(objects, outcomes, predictions)
                    rows, end = part.search(wanted, row, limit - len(page), room)
                    page += part.pictured(rows, budget)
                room -= end - row
        searched += end - row
        if end < outcomes.records:
            return RunPage(page, searched, Position(number, end))
    return RunPage(page, searched, None)


def _predictions_of(outcomes: PartialShard[OutcomeRow], uri: str) -> str:
    if outcomes.header.source is None:
        raise Damaged(f"{uri}: does not name the prediction shard that it was made from")
    return outcomes.header.source


def _may_have(header: ShardHeader, wanted: RecordFilter) -> bool:
    """Whether the counts of an outcome shard leave it possible that the filter takes one of its records."""
    if wanted.reason is not None:
        return wanted.reason in header.failures
    predicted, failed = sum(header.predicted.values()), sum(header.failures.values())
    others = header.records - predicted - failed  # held, conflict, gone; their labels are not counted
    known = {Outcome.PREDICTED: predicted, Outcome.QUARANTINED: failed, Outcome.RETRY_LATER: failed}
    if wanted.outcome is not None and not known.get(Outcome(wanted.outcome), others):
        return False
    if wanted.label is not None and wanted.label not in header.predicted:
        return others > 0
    return others > 0 or header.needs_review > 0 or not wanted.needs_review


@dataclass(frozen=True, slots=True)
class _Part:
    """The shards of one part.

    Attributes:
        objects: the store of shards.
        outcomes: its outcome shard.
        predictions: its prediction shard.
    """

    objects: ObjectStore
    outcomes: PartialShard[OutcomeRow]
    predictions: PartialShard[PredictionRow]

    def search(self, wanted: RecordFilter, start: int, limit: int, room: int) -> tuple[list[int], int]:
        """The rows that a filter takes, and the row after the last one that was looked at.

        Args:
            wanted: the filter.
            start: the first row.
            limit: how many rows to find at most.
            room: how many rows to look at at most.
        """
        end = min(self.outcomes.records, start + room)
        found = list[int]()
        while start < end:
            length = min(_ROWS_AT_ONCE, end - start)
            for row in self._taken(wanted, start, length):
                found.append(start + row)
                if len(found) == limit:
                    return found, start + row + 1
            start += length
        return found, end

    def _taken(self, wanted: RecordFilter, start: int, length: int) -> list[int]:
        """The rows that a filter takes, counted from `start`."""
        outcomes = self.outcomes.slice(start, length, ["outcome", "reason"])
        predictions = self.predictions.slice(start, length, ["index", "confidence", "review_reason"])
        confidence = predictions["confidence"]
        conditions = [pc.is_valid(outcomes["outcome"])]
        if wanted.outcome is not None:
            conditions.append(pc.equal(outcomes["outcome"], wanted.outcome))
        if wanted.reason is not None:
            conditions.append(pc.equal(outcomes["reason"], wanted.reason))
            conditions.append(pc.is_in(pc.cast(outcomes["outcome"], pa.string()), _FAILED))
        if wanted.label is not None:
            conditions.append(pc.equal(predictions["index"], self._index(wanted.label)))
        if wanted.at_least is not None:
            conditions.append(pc.greater_equal(confidence, pa.scalar(wanted.at_least, pa.float32())))
        if wanted.below is not None:
            conditions.append(pc.less(confidence, pa.scalar(wanted.below, pa.float32())))
        if wanted.needs_review:
            conditions.append(pc.is_valid(predictions["review_reason"]))
        taken = conditions[0]
        for condition in conditions[1:]:
            taken = pc.and_(taken, pc.fill_null(condition, False))  # noqa: FBT003 (pyarrow's)
        return list(pc.indices_nonzero(taken).to_pylist())

    def _index(self, label: str) -> int:
        """The index of a class; -1, which no row has, for a label that the bundle does not know."""
        labels = self.predictions.header.labels
        return labels.index(label) if label in labels else -1

    def pictured(self, rows: Sequence[int], budget: ReadBudget) -> list[PicturedRecord]:
        """The records of some rows, with their images as far as the budget allows."""
        if not rows:
            return []
        labels, images_uri = self.predictions.header.labels, self.predictions.header.source
        outcomes = self.outcomes.take(rows, OUTCOMES.schema.names).to_pylist()
        columns = [*PREDICTION_COLUMNS, "probabilities", "sha256"]
        predictions = self.predictions.take(rows, columns).to_pylist()
        images = images_of_rows(self.objects, images_uri, rows, budget) if images_uri is not None else {}
        return [
            PicturedRecord(
                run_record(outcome, prediction, labels),
                _by_name(labels, prediction["probabilities"]),
                images.get(prediction["sha256"] or ""),
                left_out=budget.exceeded and prediction["sha256"] not in {None, *images},
            )
            for outcome, prediction in zip(outcomes, predictions, strict=True)
        ]


def _by_name(labels: Sequence[str], probabilities: Sequence[Any] | None) -> dict[str, float]:
    return {} if probabilities is None else dict(zip(labels, probabilities, strict=True))
