"""The parts of a snapshot: gzipped, concatenated BSON documents, as `mongodump --gzip` writes them."""

import gzip
import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.manifest import Part
from mnist_ops.domain.ports import ObjectStore, Upload
from mnist_ops.steps.artifacts.objects import check_digest, file_digest

# A BSON document begins with its length, 4 bytes; the smallest one, which is empty, has 5 bytes.
_LENGTH_BYTES = 4
_SMALLEST_DOCUMENT = 5
# Bytes that are decompressed at once; most documents are far smaller.
_CHUNK = 1 << 18
# Level 4 keeps up with the database on one core; level 6 saves about 4 % more but takes twice the time.
GZIP_LEVEL = 4
# Up to 3 slices wait for the compressing thread: reading continues meanwhile, and memory is bounded.
_SLICES_AHEAD = 3


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A stored part.

    Attributes:
        uri: its URI.
        records: the number of documents.
        size: bytes, compressed.
        sha256: of the compressed bytes, hexadecimal.
        first: the first document.
        last: the last document.
    """

    uri: str
    records: int
    size: int
    sha256: str
    first: bytes
    last: bytes


@dataclass(frozen=True, slots=True)
class _Slice:
    """Documents of one batch that go into the same part.

    Attributes:
        part: the part's number.
        data: concatenated BSON documents, at least one.
        records: the number of documents.
        last: the position at which the last one begins.
        full: whether the part is complete with it.
    """

    part: int
    data: bytes
    records: int
    last: int
    full: bool


def write_parts(
    batches: Iterable[bytes], sizes: Iterable[int], begin: Callable[[int], Upload]
) -> Iterator[WrittenPart]:
    """Cut batches of concatenated BSON documents into parts and store them, in order.

    Another thread compresses, hashes and uploads while more batches are read. After any error, the caller's
    too, no incomplete part is left in the store.

    Args:
        batches: the batches as the database sent them; a few are read ahead.
        sizes: the number of documents in each part, without end; the last part may have fewer.
        begin: begins the upload of a part, given its number.
    """
    writer, pending = _Writer(begin), deque[Future[WrittenPart | None]]()
    with ThreadPoolExecutor(1, thread_name_prefix="mnist-ops-parts") as thread:
        try:
            for documents in _slices(batches, sizes):
                pending.append(thread.submit(writer.write, documents))
                if len(pending) > _SLICES_AHEAD and (written := pending.popleft().result()) is not None:
                    yield written
            pending.append(thread.submit(writer.finish))
            while pending:
                if (written := pending.popleft().result()) is not None:
                    yield written
        finally:
            thread.shutdown(cancel_futures=True)
            writer.abort()


def _slices(batches: Iterable[bytes], sizes: Iterable[int]) -> Iterator[_Slice]:
    """Cut batches where parts end; reads only the documents' lengths."""
    limits = iter(sizes)
    number, room = 0, next(limits)
    for batch in batches:
        start = 0
        while start < len(batch):
            records, last, end = _walk(batch, start, room)
            room -= records
            yield _Slice(number, batch[start:end], records, last - start, not room)
            if not room:
                number, room = number + 1, next(limits)
            start = end


def _walk(batch: bytes, start: int, limit: int) -> tuple[int, int, int]:
    """Skip up to `limit` documents; returns their number, where the last one begins, and where it ends."""
    records, last, end, length = 0, start, start, len(batch)
    while end < length and records < limit:
        last, end = end, _end_of_document(batch, end)
        records += 1
    return records, last, end


class _Writer:
    """Compresses, hashes and uploads one part after the other. Calls must not overlap."""

    def __init__(self, begin: Callable[[int], Upload]) -> None:
        self._begin = begin
        self._upload: Upload | None = None
        self._part: _OpenPart | None = None
        self._failed = False

    def write(self, documents: _Slice) -> WrittenPart | None:
        """Add documents to the open part, or open one; returns the part if it is complete."""
        if self._failed:
            return None  # the caller gets the error of the slice that failed
        try:
            if self._part is None:
                self._upload = self._begin(documents.part)
                self._part = _OpenPart(self._upload, documents)
            self._part.add(documents)
            return self.finish() if documents.full else None
        except BaseException:
            self._failed = True
            raise

    def finish(self) -> WrittenPart | None:
        """Finish the open part, if there is one."""
        if self._part is None or self._failed:
            return None
        written = self._part.finish()
        self._upload = self._part = None
        return written

    def abort(self) -> None:
        """Abort the upload of the open part, if there is one."""
        if self._upload is not None:
            self._upload.abort()


class _OpenPart:
    """An unfinished part: documents are compressed, hashed and uploaded.

    It is the file object that gzip writes its output to.
    """

    def __init__(self, upload: Upload, first: _Slice) -> None:
        self._upload = upload
        self._first = first.data[: _end_of_document(first.data, 0)]
        self._last = b""
        self._records = self._size = 0
        self._sha256 = hashlib.sha256()
        # No name and no time in the header: the same documents give the same bytes.
        self._gzip = gzip.GzipFile("", "wb", GZIP_LEVEL, self, mtime=0)

    def add(self, documents: _Slice) -> None:
        """Compress documents."""
        self._gzip.write(documents.data)
        self._records += documents.records
        self._last = documents.data[documents.last :]

    def write(self, data: bytes) -> int:
        """Take compressed bytes."""
        self._sha256.update(data)
        self._size += len(data)
        self._upload.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is buffered here; gzip calls this."""

    def finish(self) -> WrittenPart:
        """Write the end and complete the upload."""
        self._gzip.close()
        digest = self._sha256.hexdigest()
        return WrittenPart(self._upload.finish(), self._records, self._size, digest, self._first, self._last)


def _end_of_document(batch: bytes, start: int) -> int:
    length = int.from_bytes(batch[start : start + _LENGTH_BYTES], "little")
    end = start + length
    if length < _SMALLEST_DOCUMENT or end > len(batch):
        raise Damaged(f"a BSON document of {length} bytes at {start} of {len(batch)} bytes")
    return end


def read_part(objects: ObjectStore, part: Part) -> Iterator[bytes]:
    """The documents of a part, in order; the object is verified before the first one is returned.

    Raises:
        ObjectMissing, Damaged: the object is missing, or differs from the digest in the manifest.
    """
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        path = Path(folder) / "part.bson.gz"
        objects.get_file(part.uri, path)
        check_digest(part.uri, file_digest(path), part.sha256)
        with gzip.open(path, "rb") as stream:
            yield from _documents(stream, part.uri)


def _documents(stream: gzip.GzipFile, uri: str) -> Iterator[bytes]:
    left = b""
    while chunk := stream.read(_CHUNK):
        data, start = left + chunk, 0
        while (end := start + int.from_bytes(data[start : start + _LENGTH_BYTES], "little")) <= len(data):
            if end < start + _SMALLEST_DOCUMENT:
                break
            yield data[start:end]
            start = end
        left = data[start:]
    if left:
        raise Damaged(f"{uri}: ends within a document")
