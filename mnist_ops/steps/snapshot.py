"""Snapshot: the selected records are copied, as they are, into the object store."""

import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import Generation, manifest_key, part_key, sha256_hex
from mnist_ops.domain.manifest import Manifest, Part
from mnist_ops.domain.outcome_lines import log_lines, snapshot_lines, wrapped
from mnist_ops.domain.ports import ModelRegistry, ObjectStore, RecordStore, RunStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Selection
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.parts import WrittenPart, write_parts

_log = logging.getLogger(__name__)

# A part costs a run three mapped tasks (fetch, classify, publish), and a run stays under 200 of them.
MAX_PARTS = 66
# The first 32 parts have one size; every 8 more parts are twice as large.
_PARTS_OF_ONE_SIZE = 32
_PARTS_A_DOUBLING = 8


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Which snapshot to take.

    Attributes:
        generation: the generation that it belongs to.
        selection: which records it takes; the step fills in the champion.
        attempt: a token that no other attempt has, so that their keys differ.
        model_name: the name of the model that classifies the records.
        records_per_part: the size of the first parts; see `part_sizes`.
    """

    generation: Generation
    selection: Selection
    attempt: str
    model_name: str
    records_per_part: int


def snapshot(
    request: SnapshotRequest,
    *,
    records: RecordStore,
    objects: ObjectStore,
    runs: RunStore,
    models: ModelRegistry,
) -> str:
    """Take a generation's snapshot and commit it, once.

    The parts are written first, the manifest last. The commit is one atomic operation that only the first
    attempt wins; any other attempt adopts the committed snapshot. The champion is looked up once and pinned.

    Returns:
        The URI of the generation's committed manifest.

    Raises:
        Permanent: records wait, but no model was released yet.
    """
    committed = runs.committed(request.generation)
    if committed is not None:
        log_lines(_log, ["this generation has its snapshot already:", committed])
        return committed
    _warn_of_collection(records)
    champion = None if request.selection.labelled else models.champion(request.model_name)
    selection = compared_with(champion, request.selection)
    watch = Stopwatch("snapshot", objects.requests, objects.moved)
    batches: Iterator[bytes] = watch.reads(records.raw_batches(selection))
    if champion is None and not selection.labelled:
        batches = _refuse_records(batches, request.model_name)
    parts = []
    with watch.writing():
        written_parts = write_parts(
            batches,
            part_sizes(request.records_per_part),
            lambda number: objects.upload(part_key(request.generation, request.attempt, number)),
        )
        for number, written in enumerate(written_parts):
            parts.append(_described(number, written, records))
    manifest = Manifest(
        generation=request.generation,
        selection=selection,
        champion=champion if parts else None,
        parts=tuple(parts),
        stage=watch.report(sum(part.records for part in parts), sum(part.size for part in parts)),
    )
    data = manifest.to_json()
    uri = objects.put_bytes(manifest_key(request.generation, request.attempt, sha256_hex(data)), data)
    log_lines(_log, snapshot_lines(manifest))
    return runs.commit(request.generation, uri, selection.at)


def count(selection: Selection, *, records: RecordStore, models: ModelRegistry, model_name: str) -> int:
    """How many records a snapshot would take now."""
    _warn_of_collection(records)
    return records.count(compared_with(models.champion(model_name), selection))


def compared_with(champion: BundleRef | None, selection: Selection) -> Selection:
    """The selection with the champion that `stale` compares predictions with."""
    return replace(selection, champion=champion.digest if champion else None)


def _warn_of_collection(records: RecordStore) -> None:
    """Log why the records are not found, or found slowly."""
    empty = records.empty_collection()
    if empty is not None:
        log_lines(_log, wrapped(str(empty)), logging.WARNING)
        return
    for index in records.missing_indexes():
        _log.warning("index %s is missing, so selections or pages are slow: run `mnist-ops init`", index)


def part_sizes(records_per_part: int) -> Iterator[int]:
    """The number of records in each part of a snapshot, in order, without end.

    The number of records in the snapshot is not known before they are read. So the parts grow: the first 32
    have the given size, the next 8 are twice as large, and so on. The last of `MAX_PARTS` takes all that is
    left.
    """
    yield from [records_per_part] * _PARTS_OF_ONE_SIZE
    for number in range(MAX_PARTS - 1 - _PARTS_OF_ONE_SIZE):
        yield records_per_part << (number // _PARTS_A_DOUBLING + 1)
    while True:
        yield sys.maxsize


def _refuse_records(batches: Iterable[bytes], model_name: str) -> Iterator[bytes]:
    """Raise Permanent at the first record, before anything is written: there is no model to classify it."""
    for batch in batches:
        if batch:
            raise Permanent(f"records wait, but no {model_name} was released yet: run train_lenet first")
        yield batch


def _described(number: int, written: WrittenPart, records: RecordStore) -> Part:
    return Part(
        number=number,
        uri=written.uri,
        records=written.records,
        size=written.size,
        sha256=written.sha256,
        first_id=records.head(written.first).id_json,
        last_id=records.head(written.last).id_json,
    )
