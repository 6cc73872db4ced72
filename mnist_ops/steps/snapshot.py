"""Snapshot: the selected records, as they are stored, into the object store."""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import Generation, manifest_key, part_key, sha256_hex
from mnist_ops.domain.manifest import Manifest, Part
from mnist_ops.domain.ports import ModelRegistry, ObjectStore, RecordStore, RunStore
from mnist_ops.domain.selection import Selection
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.parts import WrittenPart, write_parts

_log = logging.getLogger(__name__)

RECORDS_PER_PART = 20_000


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """What to take, and for whom.

    Attributes:
        generation: whose snapshot it is.
        selection: which records; the champion is filled in here.
        attempt: a token of this attempt alone; its keys are no other attempt's.
        model_name: whose champion classifies the records.
        records_per_part: the size of a part.
    """

    generation: Generation
    selection: Selection
    attempt: str
    model_name: str
    records_per_part: int = RECORDS_PER_PART


def snapshot(
    request: SnapshotRequest,
    *,
    records: RecordStore,
    objects: ObjectStore,
    runs: RunStore,
    models: ModelRegistry,
) -> str:
    """Take a generation's snapshot and commit it, once.

    Parts go first, the manifest last, and one atomic set-once decides: an attempt that comes
    second adopts the snapshot that stands. The champion is looked up once and pinned.

    Returns:
        The URI of the manifest that stands for this generation.

    Raises:
        Permanent: records wait, but no model was released yet.
    """
    standing = runs.committed(request.generation)
    if standing is not None:
        _log.info("%s: its snapshot stands, %s", request.generation.id, standing)
        return standing
    for index in records.missing_indexes():
        _log.warning("index %s is missing, so this selection scans: run `mnist-ops init`", index)
    champion = None if request.selection.labelled else models.champion(request.model_name)
    selection = replace(request.selection, champion=champion.digest if champion else None)
    watch = Stopwatch("snapshot", objects.requests)
    parts = []
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        batches: Iterator[bytes] = watch.reads(records.raw_batches(selection))
        for number, written in enumerate(write_parts(batches, request.records_per_part, Path(folder))):
            if champion is None and not selection.labelled:
                raise Permanent(
                    f"records wait, but no {request.model_name} was released yet: run train_lenet first"
                )
            with watch.writing():
                parts.append(_store_part(request, number, written, records, objects))
    manifest = Manifest(
        generation=request.generation,
        selection=selection,
        champion=champion if parts else None,
        parts=tuple(parts),
        stage=watch.report(sum(part.records for part in parts), sum(part.size for part in parts)),
    )
    data = manifest.to_json()
    uri = objects.put_bytes(manifest_key(request.generation, request.attempt, sha256_hex(data)), data)
    return runs.commit(request.generation, uri, selection.at)


def _store_part(
    request: SnapshotRequest, number: int, written: WrittenPart, records: RecordStore, objects: ObjectStore
) -> Part:
    return Part(
        number=number,
        uri=objects.put_file(part_key(request.generation, request.attempt, number), written.path),
        records=written.records,
        size=written.size,
        sha256=written.sha256,
        first_id=records.head(written.first).id_json,
        last_id=records.head(written.last).id_json,
    )
