"""Shards: what became of one part, one Parquet object a step, one row a record, in the part's order."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import Generation, part_in_name, shard_key, shard_prefix
from mnist_ops.domain.manifest import Part
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.stages import StageReport
from mnist_ops.steps.artifacts.objects import file_digest, get_verified_file, open_parquet, read_manifest

ROWS_PER_GROUP = 1_000
# A row group is also closed when its payloads reach this, so that large images cost no memory.
BYTES_PER_GROUP = 32 << 20

_REJECTION = [("reason", pa.dictionary(pa.int8(), pa.string())), ("detail", pa.string())]

IMAGES = pa.schema(
    [
        ("record_id", pa.string()),
        ("url", pa.string()),
        *_REJECTION,
        ("retry_after_s", pa.float32()),
        ("sha256", pa.string()),
        # On the first row of its sha256 within the shard, and nowhere else.
        ("payload", pa.binary()),
        # The earlier shard that holds the payload, where this one does not.
        ("image_uri", pa.string()),
        ("http_status", pa.int16()),
        ("bytes", pa.int32()),
        # What the server said of the answer's version, for asking later whether it has changed.
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("fetched_at", pa.timestamp("ms", "UTC")),
    ]
)

PREDICTIONS = pa.schema(
    [
        ("record_id", pa.string()),
        ("url", pa.string()),
        *_REJECTION,
        ("retry_after_s", pa.float32()),
        ("sha256", pa.string()),
        ("probabilities", pa.list_(pa.float32(), 10)),
        ("index", pa.int8()),
        ("confidence", pa.float32()),
        ("needs_review", pa.bool_()),
        ("review_reason", pa.dictionary(pa.int8(), pa.string())),
        # Higher for less like a digit; the bundle's card has the threshold.
        ("not_a_digit_score", pa.float32()),
    ]
)

OUTCOMES = pa.schema(
    [("record_id", pa.string()), ("outcome", pa.dictionary(pa.int8(), pa.string())), *_REJECTION]
)

SCHEMAS = {"images": IMAGES, "predictions": PREDICTIONS, "outcomes": OUTCOMES}

# The step whose report is the newest in a shard.
_MAKERS = {"images": "fetch", "predictions": "classify", "outcomes": "publish"}

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        kind: images, predictions or outcomes.
        manifest: the URI of the snapshot's manifest.
        part: the part's number.
        records: rows.
        failures: rows with a reason, by reason.
        stages: what this step and those before it cost, by step.
        source: the URI of what it was made from: a snapshot's part, or the shard of the step before.
        labels: the bundle's label table, in a prediction shard.
        held_because: why the predictions are held, in an outcome shard.
        refers_to: the URIs of earlier shards that must stay as long as this one: the source, where that is a
            shard, what the source refers to, and shards that hold images of its rows.
        assessment: the URI of the assessment that published it, in an outcome shard.
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

    def metadata(self) -> dict[str, str]:
        """As Parquet key-value metadata."""
        document = {
            "kind": self.kind,
            "manifest": self.manifest,
            "part": self.part,
            "records": self.records,
            "failures": dict(self.failures),
            "stages": {name: report.document() for name, report in self.stages.items()},
            "source": self.source,
            "labels": list(self.labels),
            "held_because": self.held_because,
            "refers_to": list(self.refers_to),
            "assessment": self.assessment,
        }
        return {"mnist_ops": json.dumps(document, sort_keys=True)}

    @staticmethod
    def of(metadata: Mapping[bytes, bytes] | None, uri: str) -> "ShardHeader":
        """Read what `metadata` gave.

        Raises:
            Damaged: the Parquet file is no shard.
        """
        try:
            document = json.loads((metadata or {})[b"mnist_ops"])
            stages = {name: StageReport.of(report) for name, report in document.pop("stages").items()}
            labels, refers_to = tuple(document.pop("labels")), tuple(document.pop("refers_to"))
            return ShardHeader(stages=stages, labels=labels, refers_to=refers_to, **document)
        except (KeyError, ValueError, TypeError) as error:
            raise Damaged(f"{uri}: a Parquet file, but no shard ({error!r})") from error

    def with_upload(self, objects: ObjectStore, path: Path) -> "ShardHeader":
        """The header as it is once the shard's file was stored: its own upload is counted."""
        maker = _MAKERS.get(self.kind, "")
        if maker not in self.stages:
            return self
        size = path.stat().st_size
        stored = self.stages[maker].with_upload(objects.upload_requests(size), size)
        return replace(self, stages={**self.stages, maker: stored})


class ShardWriter:
    """Writes a shard's rows to a file of its own, in row groups.

    Args:
        kind: images, predictions or outcomes.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._folder = tempfile.TemporaryDirectory(prefix="mnist-ops-")
        self._path = Path(self._folder.name) / "shard.parquet"
        self._schema = SCHEMAS[kind]
        # Payloads are compressed pictures already, and every one is different.
        plain = [name for name in self._schema.names if name not in ("payload", "sha256", "record_id")]
        self._writer = pq.ParquetWriter(
            self._path,
            self._schema,
            compression={name: "none" if name == "payload" else "zstd" for name in self._schema.names},
            use_dictionary=plain,
        )
        self._names = tuple(self._schema.names)
        self._rows: list[tuple[object, ...]] = []
        self._payload_bytes = 0
        self._refers_to: set[str] = set()
        self.records = 0
        self.failures: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._folder.cleanup()

    def add(self, row: Row) -> None:
        """Add a row; absent columns are null."""
        self._rows.append(tuple(map(row.get, self._names)))
        self.records += 1
        payload = row.get("payload")
        if payload is not None:
            self._payload_bytes += len(payload)  # type: ignore[arg-type]
        if row.get("reason") is not None:
            self._fail(str(row["reason"]))
        if len(self._rows) == ROWS_PER_GROUP or self._payload_bytes >= BYTES_PER_GROUP:
            self._flush()

    def add_group(self, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> None:
        """Add a row group of its own, by columns of equal lengths, one for each of the schema."""
        group = pa.table([columns[name] for name in self._schema.names], self._schema)
        self._writer.write_table(group)
        self.records += len(group)
        for reason in pc.drop_null(group["reason"]).to_pylist():
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def _flush(self) -> None:
        values = dict(zip(self._names, zip(*self._rows, strict=True), strict=True))
        self._refers_to.update(uri for uri in values.get("image_uri", ()) if isinstance(uri, str))
        columns = [pa.array(values[field.name], field.type) for field in self._schema]
        self._writer.write_table(pa.table(columns, self._schema))
        self._rows.clear()
        self._payload_bytes = 0

    def store(self, objects: ObjectStore, generation: Generation, header: ShardHeader) -> str:
        """Finish the file and put it into the store under its digest; returns its URI."""
        if self._rows:
            self._flush()
        refers_to = dict.fromkeys([*header.refers_to, *sorted(self._refers_to)])
        self._writer.add_key_value_metadata(replace(header, refers_to=tuple(refers_to)).metadata())
        self._writer.close()
        return objects.put_file(
            shard_key(self.kind, generation, header.part, file_digest(self._path)), self._path
        )


class Shard:
    """A shard's file, open for reading."""

    def __init__(self, file: pq.ParquetFile, header: ShardHeader) -> None:
        self._file = file
        self.header = header

    @property
    def records(self) -> int:
        """How many rows there are."""
        return int(self._file.metadata.num_rows)

    def rows(self, columns: list[str] | None = None) -> Iterator[Row]:
        """All rows, in order."""
        for group in self.groups(columns):
            yield from group.to_pylist()

    def groups(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Each row group."""
        for number in range(self._file.num_row_groups):
            yield self._file.read_row_group(number, columns=columns)


@contextmanager
def open_shard(objects: ObjectStore, uri: str, kind: str, manifest_uri: str | None = None) -> Iterator[Shard]:
    """Read a shard, verified.

    Args:
        objects: where it lies.
        uri: its name.
        kind: what it must be a shard of.
        manifest_uri: the snapshot it must be of, where that is known.

    Raises:
        ObjectMissing, Damaged: it is not the shard that the URI names.
        Permanent: it is of another snapshot.
    """
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        path = get_verified_file(objects, uri, Path(folder) / "shard.parquet")
        with open_parquet(path, uri) as file:
            header = ShardHeader.of(file.metadata.metadata, uri).with_upload(objects, path)
            if header.kind != kind:
                raise Damaged(f"{uri}: a shard of {header.kind}, expected {kind}")
            if manifest_uri not in (None, header.manifest):
                raise Permanent(f"{uri}: a shard of {header.manifest}, expected one of {manifest_uri}")
            yield Shard(file, header)


def require_rows_of(part: Part, shard: Shard, uri: str) -> None:
    """Refuse a shard that has not a row for every record of its part.

    Raises:
        Damaged: with both counts.
    """
    if shard.records != part.records:
        raise Damaged(f"{uri}: has {shard.records} rows, {part.uri} has {part.records} records")


def stored_shards(objects: ObjectStore, kind: str, generation: Generation) -> dict[int, str]:
    """The shards of a generation that are in the store, by their part, whichever attempts stored them.

    A shard is stored in one piece, so each of them is whole; of several of a part it is always the same one.
    """
    uris = map(objects.uri, sorted(objects.keys(shard_prefix(kind, generation))))
    return {part_in_name(uri): uri for uri in uris}


def shards_by_part(objects: ObjectStore, manifest_uri: str, uris: Sequence[str]) -> dict[int, str]:
    """Sort image or prediction shards by their part, which their names tell.

    Raises:
        Permanent: a part of the manifest has no shard, or a shard is of no part of it.
    """
    shards = {part_in_name(uri): uri for uri in uris}
    expected = {part.number for part in read_manifest(objects, manifest_uri).parts}
    if shards.keys() != expected or len(uris) != len(shards):
        raise Permanent(f"{manifest_uri}: has parts {sorted(expected)}, got shards of {sorted(shards)}")
    return shards
