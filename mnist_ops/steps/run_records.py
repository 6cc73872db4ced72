"""The records of a finished run, one by one, from the shards that its ledger refers to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import Generation, part_in_name, shard_prefix
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES, PREDICTIONS, OutcomeRow, PredictionRow
from mnist_ops.steps.artifacts.shards import open_shard

PREDICTION_COLUMNS = ["record_id", "url", "reason", "index", "confidence", "review_reason"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run did with one record.

    Attributes:
        record_id: its `_id` as canonical Extended JSON.
        outcome: a name of `Outcome`.
        reason: why it failed; None if it did not.
        detail: one line for people about the failure or the conflict, if there is one.
        url: of its image, as snapshotted; None if it was not a string.
        label: the predicted label, also if the prediction was held; None without a prediction.
        confidence: its probability, 0 to 1.
        review_reason: why a person should look at the prediction; None if nobody has to.
    """

    record_id: str
    outcome: str
    reason: str | None
    detail: str | None
    url: str | None
    label: str | None = None
    confidence: float | None = None
    review_reason: str | None = None


def run_records(
    generation: Generation, refers_to: Sequence[str], *, objects: ObjectStore
) -> Iterator[RunRecord]:
    """Read the records of a generation part by part, in the order of the snapshot.

    At most one row group of a part is in memory. A part that was never published has no records here.

    Args:
        generation: the run's.
        refers_to: the URIs of its ledger.
        objects: the store of shards.

    Raises:
        ObjectMissing, Damaged: a shard is missing, or differs from its digest.
    """
    for uri in outcome_shards(generation, refers_to).values():
        yield from _of_part(uri, objects)


def outcome_shards(generation: Generation, refers_to: Sequence[str]) -> dict[int, str]:
    """The outcome shards of a generation by part number, in order; `refers_to` is that of its ledger."""
    folder = f"/{shard_prefix(OUTCOMES.name, generation)}part-"
    return {part_in_name(uri): uri for uri in sorted(uri for uri in refers_to if folder in uri)}


def _of_part(uri: str, objects: ObjectStore) -> Iterator[RunRecord]:
    with open_shard(objects, uri, OUTCOMES) as outcomes:
        source = outcomes.header.source
        if source is None:
            raise Damaged(f"{uri}: does not name the prediction shard that it was made from")
        with open_shard(objects, source, PREDICTIONS, outcomes.header.manifest) as predictions:
            rows = zip(outcomes.rows(), predictions.rows(PREDICTION_COLUMNS), strict=True)
            for outcome, prediction in rows:
                yield run_record(outcome, prediction, predictions.header.labels)


def run_record(outcome: OutcomeRow, prediction: PredictionRow, labels: Sequence[str]) -> RunRecord:
    """Join a record's rows.

    Args:
        outcome: its row of the outcome shard.
        prediction: its row of the prediction shard, with `PREDICTION_COLUMNS`.
        labels: the names of the classes, by index.

    Raises:
        Damaged: the rows are of two records.
    """
    if outcome["record_id"] != prediction["record_id"]:
        raise Damaged(f"record {outcome['record_id']} is paired with {prediction['record_id']}")
    record = RunRecord(
        record_id=outcome["record_id"],
        outcome=outcome["outcome"],
        reason=outcome["reason"],
        detail=outcome["detail"],
        url=prediction["url"],
    )
    if prediction["reason"] is not None:
        return record
    return replace(
        record,
        label=labels[prediction["index"]],
        confidence=prediction["confidence"],
        review_reason=prediction["review_reason"],
    )
