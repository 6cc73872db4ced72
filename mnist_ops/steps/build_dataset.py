"""Build dataset: human-labelled records and their images become examples in folds."""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.failure_examples import FailureExamples
from mnist_ops.domain.keys import artifact_key
from mnist_ops.domain.labels import DIGITS, LabelTable
from mnist_ops.domain.outcome_lines import counted, failure_lines, log_lines, wrapped
from mnist_ops.domain.outcomes import FailureBudget
from mnist_ops.domain.ports import DatasetRegistry, ObjectStore, RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.datasets import ROWS, Dataset, DatasetRow
from mnist_ops.steps.artifacts.objects import file_digest, put_json, read_manifest
from mnist_ops.steps.artifacts.row_counts import RowCounts
from mnist_ops.steps.artifacts.shards import shards_by_part
from mnist_ops.steps.labelled_examples import LabelledExamples
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.data.minimums import Minimums
from mnist_ops.vision.preprocessing.normalize import PREPROCESSING_VERSION

_log = logging.getLogger(__name__)

ROWS_PER_GROUP = 1_000
# Faults of labels, which people make one by one; the failure budget is for images.
_OF_LABELS = frozenset({Reason.UNKNOWN_LABEL, Reason.LABEL_CONFLICT})


def build_dataset(  # noqa: PLR0913 (the three stores, the labels, the budget and the minimums are apart)
    manifest_uri: str,
    image_shards: Sequence[str],
    *,
    records: RecordStore,
    objects: ObjectStore,
    datasets: DatasetRegistry,
    budget: FailureBudget,
    minimums: Minimums,
    labels: LabelTable = DIGITS,
) -> str:
    """Build a data set from a labelled snapshot and its image shards.

    Every image is verified by its sha256. A record is quarantined if its label is not in the table, if its
    image has another label in another record, or if its image could not be fetched or decoded. The fold
    depends on the image's bytes alone.

    Args:
        manifest_uri: the snapshot's manifest.
        image_shards: the URIs of its parts' image shards, in any order.
        records: reads the fields of records.
        objects: the store of manifest, shards and data set.
        datasets: the registry that the data set is added to; the next data set reuses its images.
        budget: how many records may have an image that could not be fetched or decoded.
        minimums: how many usable examples training, release and gate need.
        labels: the names of the classes, by index.

    Returns:
        The URI of the data set's manifest.

    Raises:
        Damaged: an image's bytes are not those that were fetched.
        Permanent: a part has no image shard, the failures exceed the budget, no example is usable, or there
            are fewer than the minimums.
    """
    manifest = read_manifest(objects, manifest_uri)
    watch = Stopwatch("build_dataset", objects.requests, objects.moved)
    shards = shards_by_part(objects, manifest_uri, image_shards)
    source = LabelledExamples(manifest_uri, manifest, shards, records, objects, labels)
    rows = source.rows(source.agreed_labels())
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        path = Path(folder) / "rows.parquet"
        tally, examples = _write_rows(path, watch.reads(rows), labels, watch)
        counted_rows = sum(count for (kind, _), count in tally.items() if kind in ("fold", "reason"))
        watch.report(counted_rows, path.stat().st_size)
        _require_within(budget, _of_kind(tally, "reason"), counted_rows, examples)
        _require_enough(tally, minimums, labels)
        rows_uri = objects.put_file(
            artifact_key("datasets", manifest.generation, "rows.parquet", file_digest(path)), path
        )
    dataset = Dataset(
        rows=rows_uri,
        snapshot=manifest_uri,
        labels=labels.names,
        preprocessing=PREPROCESSING_VERSION,
        folds=_of_kind(tally, "fold"),
        classes=_of_kind(tally, "label"),
        quarantined=_of_kind(tally, "reason"),
    )
    uri = put_json(objects, "datasets", manifest.generation, "dataset.json", dataset.document())
    datasets.put_dataset(uri, manifest.at)
    _log_outcome(dataset, examples)
    return uri


def _write_rows(
    path: Path, rows: Iterator[DatasetRow], labels: LabelTable, watch: Stopwatch
) -> tuple[Counter[tuple[str, str]], FailureExamples]:
    """Write the Parquet file; returns the number of rows by fold, by label and by reason, and examples."""
    tally, quarantined = Counter[tuple[str, str]](), RowCounts()
    with pq.ParquetWriter(path, ROWS, compression="zstd") as writer:
        while group := list(islice(rows, ROWS_PER_GROUP)):
            tally.update(_countable(group, labels))
            for row in group:
                if row["reason"] is not None:
                    quarantined.add_failure(row["reason"], row)
            with watch.computing():
                writer.write_table(pa.Table.from_pylist(group, ROWS))
    return tally, quarantined.examples


def _countable(rows: Sequence[DatasetRow], labels: LabelTable) -> Iterator[tuple[str, str]]:
    for row in rows:
        if row["reason"] is not None:
            yield "reason", row["reason"]
        else:
            yield "fold", row["fold"]
            yield "label", labels.name(row["label"])
            if row["fold"] == Fold.TRAIN:
                yield "trained on", labels.name(row["label"])


def _require_within(
    budget: FailureBudget, quarantined: Mapping[str, int], records: int, examples: FailureExamples
) -> None:
    failures = {reason: count for reason, count in quarantined.items() if reason not in _OF_LABELS}
    excess = budget.excess(failures, records)
    if excess is not None:
        lines = [
            *wrapped(f"nothing is trained: {excess}"),
            *failure_lines(failures, examples),
            "Fix the cause, then start the training again. To train on the other records anyway,",
            "raise MNIST_OPS_FAILURE_BUDGET.",
        ]
        raise Permanent("\n".join(lines))


def _require_enough(tally: Mapping[tuple[str, str], int], minimums: Minimums, labels: LabelTable) -> None:
    folds, quarantined = _of_kind(tally, "fold"), _of_kind(tally, "reason")
    if not folds:
        raise Permanent(f"no labelled record is usable: {counted(quarantined)}")
    shortfalls = minimums.shortfalls(folds, _of_kind(tally, "trained on"), labels.names)
    if shortfalls:
        lines = [
            f"{sum(folds.values())} usable labels are too few to train and release a model:",
            *shortfalls,
        ]
        if quarantined:
            unusable = sum(quarantined.values())
            lines.append(f"{unusable} labelled records are not usable: {counted(quarantined)}")
        raise Permanent("\n".join(line for text in lines for line in wrapped(text)))


def _of_kind(tally: Mapping[tuple[str, str], int], kind: str) -> dict[str, int]:
    return {name: count for (other, name), count in sorted(tally.items()) if other == kind}


def _log_outcome(dataset: Dataset, examples: FailureExamples) -> None:
    log_lines(_log, wrapped(f"{sum(dataset.folds.values())} examples: {counted(dataset.folds)}"))
    log_lines(_log, wrapped(f"labels: {counted(dataset.classes)}"))
    log_lines(_log, failure_lines(dataset.quarantined, examples))
