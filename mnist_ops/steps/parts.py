"""The parts of a snapshot: gzipped, concatenated BSON documents, as `mongodump --gzip` writes them."""

import gzip
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.manifest import Part
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts import check_digest, file_digest

# A BSON document begins with its own length, its smallest is empty.
_LENGTH_BYTES = 4
_SMALLEST_DOCUMENT = 5
# Level 4 keeps up with the database on one core; 6 shrinks records by some 4 % more for twice the time.
_GZIP_LEVEL = 4


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write and hash."""
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A part's file, finished.

    Attributes:
        path: where it lies on disk, until the writer's folder goes.
        records: documents in it.
        size: bytes, compressed.
        sha256: of the compressed bytes, hexadecimal.
        first: the first document.
        last: the last document.
    """

    path: Path
    records: int
    size: int
    sha256: str
    first: bytes
    last: bytes


def write_parts(batches: Iterable[bytes], records_per_part: int, folder: Path) -> Iterator[WrittenPart]:
    """Cut batches of concatenated BSON documents into part files, one at a time.

    A file is removed when the next one is asked for, so that disk and memory stay constant.

    Args:
        batches: as the database sent them.
        records_per_part: documents a part; the last may have fewer.
        folder: where the files are made.
    """
    documents = (document for batch in batches for document in cut(batch))
    path = folder / "part.bson.gz"
    first = next(documents, None)
    while first is not None:
        yield _write_part(first, documents, records_per_part, path)
        first = next(documents, None)


def _write_part(first: bytes, documents: Iterator[bytes], limit: int, path: Path) -> WrittenPart:
    records, last = 1, first
    with path.open("wb") as file:
        hashing = _Hashing(file)
        # No name and no time in the header: the same documents give the same bytes.
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, hashing, mtime=0) as stream:
            stream.write(first)
            while records < limit and (document := next(documents, None)) is not None:
                stream.write(document)
                records, last = records + 1, document
    return WrittenPart(path, records, hashing.size, hashing.sha256.hexdigest(), first, last)


def cut(batch: bytes) -> Iterator[bytes]:
    """Cut concatenated BSON documents apart.

    Raises:
        Damaged: the bytes end within a document.
    """
    position = 0
    while position < len(batch):
        length = int.from_bytes(batch[position : position + _LENGTH_BYTES], "little")
        if length < _SMALLEST_DOCUMENT or position + length > len(batch):
            raise Damaged(f"a BSON document of {length} bytes at {position} of {len(batch)} bytes")
        yield batch[position : position + length]
        position += length


def read_part(objects: ObjectStore, part: Part) -> Iterator[bytes]:
    """The documents of a part, in order; the whole object is verified before the first.

    Raises:
        ObjectMissing, Damaged: the part is not what the manifest names.
    """
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        path = Path(folder) / "part.bson.gz"
        objects.get_file(part.uri, path)
        check_digest(part.uri, file_digest(path), part.sha256)
        with gzip.open(path, "rb") as stream:
            yield from _documents(stream, part.uri)


def _documents(stream: gzip.GzipFile, uri: str) -> Iterator[bytes]:
    while prefix := stream.read(_LENGTH_BYTES):
        length = int.from_bytes(prefix, "little")
        body = stream.read(length - _LENGTH_BYTES) if length >= _SMALLEST_DOCUMENT else b""
        if len(prefix) + len(body) != length:
            raise Damaged(f"{uri}: ends within a document")
        yield prefix + body
