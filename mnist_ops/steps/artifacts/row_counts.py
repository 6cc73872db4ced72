"""What a step logs of a part's rows: failures with examples, predictions, and those to review; counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mnist_ops.domain.failure_examples import MAX_EXAMPLES, FailureExample, failure_example
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.steps.artifacts.shard_kinds import PredictionRow

_PREDICTED = str(Outcome.PREDICTED)


class RowCounts:
    """Counts the rows of a shard while they are written.

    Attributes:
        failures: rows with a reason, by reason.
        examples: of each reason the first 3 rows.
        outcomes: rows of an outcome shard, by outcome.
        predictions: rows with a prediction, by the index of its class; in an outcome shard the records whose
            outcome is `predicted`.
        needs_review: of them, those marked for review.
    """

    def __init__(self) -> None:
        self.failures = Counter[str]()
        self.examples: dict[str, list[FailureExample]] = {}
        self.outcomes = Counter[str]()
        self.predictions = Counter[int]()
        self.needs_review = 0

    def add_failure(self, reason: str, row: Mapping[str, Any]) -> None:
        """Count a row with a reason."""
        self.failures[reason] += 1
        if self.failures[reason] <= MAX_EXAMPLES:
            example = failure_example(row["record_id"], row.get("url"), row.get("detail"))
            self.examples.setdefault(reason, []).append(example)

    def add_outcome(self, outcome: str, row: PredictionRow) -> None:
        """Count a row of an outcome shard; `row` is the prediction shard's row of the record."""
        self.outcomes[outcome] += 1
        if row["reason"] is None and outcome == _PREDICTED:
            self.predictions[row["index"]] += 1
            self.needs_review += row["review_reason"] is not None

    def add_predictions(self, group: pa.Table) -> None:
        """Count the rows of a row group of a prediction shard, by columns: no row becomes a Python object."""
        self.predictions.update(_value_counts(group["index"]))
        self.needs_review += pc.sum(group["needs_review"]).as_py() or 0
        for reason, count in _value_counts(group["reason"]).items():
            if self.failures[reason] < MAX_EXAMPLES:
                self._keep_examples(reason, group)
            self.failures[reason] += count

    def _keep_examples(self, reason: str, group: pa.Table) -> None:
        rows = group.filter(pc.equal(group["reason"], reason)).select(["record_id", "url", "detail"])
        examples = self.examples.setdefault(reason, [])
        for row in rows.slice(0, MAX_EXAMPLES - len(examples)).to_pylist():
            examples.append(failure_example(row["record_id"], row["url"], row["detail"]))


def by_label(predictions: Mapping[int, int], labels: Sequence[str]) -> dict[str, int]:
    """Counts by class index as counts by label, in the order of the classes; without those of zero."""
    return {labels[index]: predictions[index] for index in sorted(predictions)}


def _value_counts(column: pa.ChunkedArray) -> dict[Any, int]:
    """The number of rows by value; null is not counted."""
    if column.null_count == len(column):
        return {}
    counts = pc.value_counts(column.drop_null())
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
