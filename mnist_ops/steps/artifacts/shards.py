"""Shards: a step's results for one part, one Parquet object, one row a record, in the part's order."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Generic, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_ops.domain.ages import AgeHistogram
from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.failure_examples import FailureExamples
from mnist_ops.domain.keys import Generation, part_in_name, shard_key, shard_prefix
from mnist_ops.domain.manifest import Part
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.stages import StageReport
from mnist_ops.steps.artifacts.objects import file_digest, get_verified_file, open_parquet, read_manifest
from mnist_ops.steps.artifacts.row_counts import RowCounts
from mnist_ops.steps.artifacts.shard_kinds import RowT, ShardKind

ROWS_PER_GROUP = 1_000
# A row group is also closed when its payloads reach this, so that large images cost no memory.
BYTES_PER_GROUP = 32 << 20


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """The description that a shard carries as Parquet metadata.

    Attributes:
        kind: images, predictions or outcomes.
        manifest: the URI of the snapshot's manifest.
        part: the part's number.
        records: rows.
        failures: rows with a reason, by reason.
        stages: the reports of this step and of those before it, by step.
        source: the URI of the object it was made from: a snapshot's part, or the shard of the step before.
        labels: the bundle's label table; in prediction shards only.
        held_because: by how much the run is over its failure budget, unless somebody released it; in outcome
            shards only.
        examples: of each reason up to 3 failed records.
        predicted: in prediction shards the rows with a prediction, by label; in outcome shards the records
            whose outcome is `predicted`, by label.
        needs_review: of `predicted`, those marked for review.
        refers_to: the URIs of earlier shards that must be kept as long as this one: the source if it is a
            shard, the shards that the source refers to, and those that hold images of its rows.
        assessment: the URI of the assessment that publish followed; in outcome shards only.
        ages: the ages at publication of records that got their first prediction; in outcome shards only.
    """

    kind: str
    manifest: str
    part: int
    records: int
    failures: Mapping[str, int]
    stages: Mapping[str, StageReport]
    source: str | None = None
    labels: tuple[str, ...] = ()
    held_because: str | None = None
    refers_to: tuple[str, ...] = ()
    assessment: str | None = None
    examples: FailureExamples = field(default_factory=dict)
    predicted: Mapping[str, int] = field(default_factory=dict)
    needs_review: int = 0
    ages: AgeHistogram = field(default_factory=AgeHistogram)

    def metadata(self) -> dict[str, str]:
        """As Parquet key-value metadata."""
        stages = {name: report.document() for name, report in self.stages.items()}
        document = asdict(self) | {"stages": stages, "ages": self.ages.document()}
        return {"mnist_ops": json.dumps(document, sort_keys=True)}

    @staticmethod
    def of(metadata: Mapping[bytes, bytes] | None, uri: str) -> "ShardHeader":
        """Read back what `metadata` gave.

        Raises:
            Damaged: the Parquet file is not a shard.
        """
        try:
            document = json.loads((metadata or {})[b"mnist_ops"])
            stages = {name: StageReport.of(report) for name, report in document.pop("stages").items()}
            labels, refers_to = tuple(document.pop("labels")), tuple(document.pop("refers_to"))
            # Shards of earlier versions have no ages.
            ages = AgeHistogram.of(document.pop("ages")) if "ages" in document else AgeHistogram()
            return ShardHeader(stages=stages, labels=labels, refers_to=refers_to, ages=ages, **document)
        except (KeyError, ValueError, TypeError) as error:
            raise Damaged(f"{uri}: a Parquet file, but not a shard ({error!r})") from error

    def with_upload(self, step: str, objects: ObjectStore, size: int) -> "ShardHeader":
        """The same, with the upload of the shard itself added to the report of the step that wrote it.

        Args:
            step: that step.
            objects: where the shard is stored.
            size: bytes of the shard.
        """
        if step not in self.stages:
            return self
        stored = self.stages[step].with_upload(objects.upload_requests(size), size)
        return replace(self, stages={**self.stages, step: stored})


class ShardWriter(Generic[RowT]):
    """Writes a shard's rows to a temporary file, in row groups, and stores it.

    Args:
        kind: the kind of shard.

    Attributes:
        records: rows so far.
        counts: of them: failures, predictions, and those to review.
    """

    def __init__(self, kind: ShardKind[RowT]) -> None:
        self.kind = kind
        self._folder = tempfile.TemporaryDirectory(prefix="mnist-ops-")
        self._path = Path(self._folder.name) / "shard.parquet"
        self._schema, self._names = kind.schema, tuple(kind.schema.names)
        # A dictionary is of no use where nearly every value is different; images are compressed already.
        unique = ("payload", "sha256", "record_id")
        self._writer = pq.ParquetWriter(
            self._path,
            self._schema,
            compression={name: "none" if name == "payload" else "zstd" for name in self._names},
            use_dictionary=[name for name in self._names if name not in unique],
        )
        self._rows: list[tuple[object, ...]] = []
        self._payload_bytes = 0
        self._refers_to: set[str] = set()
        self.records = 0
        self.counts = RowCounts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._folder.cleanup()

    def add(self, row: RowT, url: str | None = None) -> None:
        """Add a row; absent columns are null.

        Args:
            row: the row; a reason is counted as a failure, except beside an outcome that is none.
            url: of the record's image, for the examples; needed where the kind has no column for it.
        """
        self._rows.append(tuple(map(row.get, self._names)))
        self.records += 1
        payload, reason, outcome = row.get("payload"), row.get("reason"), row.get("outcome")
        if isinstance(payload, bytes):
            self._payload_bytes += len(payload)
        if isinstance(reason, str) and (not isinstance(outcome, str) or Outcome(outcome).failed):
            self.counts.add_failure(reason, row if url is None else {**row, "url": url})
        if len(self._rows) == ROWS_PER_GROUP or self._payload_bytes >= BYTES_PER_GROUP:
            self._flush()

    def add_group(self, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> None:
        """Add rows of a prediction shard as one row group: every column of the schema, all of one length."""
        group = pa.table([columns[name] for name in self._names], self._schema)
        self._writer.write_table(group)
        self.records += len(group)
        self.counts.add_predictions(group)

    def _flush(self) -> None:
        values = dict(zip(self._names, zip(*self._rows, strict=True), strict=True))
        self._refers_to.update(uri for uri in values.get("image_uri", ()) if isinstance(uri, str))
        columns = [pa.array(values[field.name], field.type) for field in self._schema]
        self._writer.write_table(pa.table(columns, self._schema))
        self._rows.clear()
        self._payload_bytes = 0

    def store(self, objects: ObjectStore, generation: Generation, header: ShardHeader) -> str:
        """Finish the file and store it under a key with its digest; returns its URI."""
        if self._rows:
            self._flush()
        refers_to = dict.fromkeys([*header.refers_to, *sorted(self._refers_to)])
        self._writer.add_key_value_metadata(replace(header, refers_to=tuple(refers_to)).metadata())
        self._writer.close()
        return objects.put_file(
            shard_key(self.kind.name, generation, header.part, file_digest(self._path)), self._path
        )


class Shard(Generic[RowT]):
    """A shard's file, open for reading."""

    def __init__(self, file: pq.ParquetFile, header: ShardHeader) -> None:
        self._file = file
        self.header = header

    @property
    def records(self) -> int:
        """The number of rows."""
        return int(self._file.metadata.num_rows)

    def rows(self, columns: list[str] | None = None) -> Iterator[RowT]:
        """All rows, in order, with all columns or some."""
        for group in self.groups(columns):
            yield from group.to_pylist()

    def groups(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The row groups, in order, with all columns or some."""
        for number in range(self._file.num_row_groups):
            yield self._file.read_row_group(number, columns=columns)


@contextmanager
def open_shard(
    objects: ObjectStore, uri: str, kind: ShardKind[RowT], manifest_uri: str | None = None
) -> Iterator[Shard[RowT]]:
    """Read a shard, verified.

    Args:
        objects: the store that has it.
        uri: the shard's URI.
        kind: the kind that it must be of.
        manifest_uri: the manifest of the snapshot that it must be of; None for any.

    Raises:
        ObjectMissing, Damaged: the object is missing, differs from its digest, or is not of this kind.
        Permanent: it is of another snapshot.
    """
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        path = get_verified_file(objects, uri, Path(folder) / "shard.parquet")
        with open_parquet(path, uri) as file:
            header = ShardHeader.of(file.metadata.metadata, uri)
            if header.kind != kind.name:
                raise Damaged(f"{uri}: a shard of {header.kind}, expected {kind.name}")
            if manifest_uri not in (None, header.manifest):
                raise Permanent(f"{uri}: a shard of {header.manifest}, expected one of {manifest_uri}")
            yield Shard(file, header.with_upload(kind.step, objects, path.stat().st_size))


def require_rows_of(part: Part, shard: Shard[RowT], uri: str) -> None:
    """Check that a shard has a row for every record of its part.

    Raises:
        Damaged: it has not; with both counts.
    """
    if shard.records != part.records:
        raise Damaged(f"{uri}: has {shard.records} rows, {part.uri} has {part.records} records")


def stored_shards(objects: ObjectStore, kind: str, generation: Generation) -> dict[int, str]:
    """The stored shards of a generation by part number, from any attempt.

    A shard is stored in one piece, so each of them is complete. If a part has several, the one whose key
    sorts last is taken, so that the result is always the same.
    """
    uris = map(objects.uri, sorted(objects.keys(shard_prefix(kind, generation))))
    return {part_in_name(uri): uri for uri in uris}


def shards_by_part(objects: ObjectStore, manifest_uri: str, uris: Sequence[str]) -> dict[int, str]:
    """Sort image or prediction shards by their part number, which is in their names.

    Raises:
        Permanent: a part of the manifest has no shard or several, or a shard is of no part of it.
    """
    shards = {part_in_name(uri): uri for uri in uris}
    expected = {part.number for part in read_manifest(objects, manifest_uri).parts}
    if shards.keys() != expected or len(uris) != len(shards):
        raise Permanent(f"{manifest_uri}: has parts {sorted(expected)}, got shards of {sorted(shards)}")
    return shards
