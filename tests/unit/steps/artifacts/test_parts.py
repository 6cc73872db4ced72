"""Parts are gzipped, concatenated BSON, and every damage to one is noticed before it is used."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import repeat

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.domain.errors import Damaged, ObjectMissing, Transient
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.manifest import Part
from mnist_ops.steps.artifacts.parts import WrittenPart, read_part, write_parts

DOCUMENTS = [bson.encode({"_id": number, "text": "x" * number}) for number in range(7)]


def stored(data: bytes, promised: str | None = None) -> tuple[InMemoryObjects, Part]:
    """Return a store with a part in it, and the part as the manifest has it."""
    objects = InMemoryObjects()
    uri = objects.put_bytes("part.bson.gz", data)
    return objects, Part(0, uri, len(DOCUMENTS), len(data), promised or sha256_hex(data), "0", "6")


@dataclass
class Store:
    """Parts in memory, by number, and the uploads.

    Attributes:
        parts: the bytes of finished parts.
        begun: the numbers of the uploads that were begun.
        aborted: the numbers of the uploads that were aborted.
        fails: raised when more than that many bytes of a part are written.
    """

    parts: dict[int, bytes] = field(default_factory=dict)
    begun: list[int] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    fails: int | None = None

    def begin(self, number: int) -> "StoredUpload":
        """Begin a part."""
        self.begun.append(number)
        return StoredUpload(self, number)

    def write(self, batches: Iterable[bytes], size: int) -> list[WrittenPart]:
        """Write all parts."""
        return list(write_parts(batches, repeat(size), self.begin))


@dataclass
class StoredUpload:
    """An unfinished part."""

    store: Store
    number: int
    data: bytes = b""

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self.data += data
        if self.store.fails is not None and len(self.data) > self.store.fails:
            raise Transient("the store is away")

    def finish(self) -> str:
        """Keep the part."""
        self.store.parts[self.number] = self.data
        return f"memory://{self.number}"

    def abort(self) -> None:
        """Abort the upload."""
        if self.number not in self.store.parts:
            self.store.aborted.append(self.number)


def written(size: int) -> list[bytes]:
    """Return the bytes of the parts of DOCUMENTS."""
    store = Store()
    store.write([b"".join(DOCUMENTS[:3]), b"", b"".join(DOCUMENTS[3:])], size)
    return [store.parts[number] for number in sorted(store.parts)]


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])])
def test_parts_are_cut_at_the_size_whatever_the_batches_are(size: int, sizes: list[int]) -> None:
    """The last may have fewer, and none is empty."""
    documents = [list(read_part(*stored(data))) for data in written(size)]
    assert [len(part) for part in documents] == sizes
    assert [document for part in documents for document in part] == DOCUMENTS


def test_no_documents_make_no_part() -> None:
    """An empty selection leaves nothing but its manifest."""
    store = Store()
    assert store.write([], 10) == []
    assert store.write([b""], 10) == []
    assert store.begun == []


def test_a_part_tells_its_first_and_last_document_and_its_digest() -> None:
    """So that the manifest need not read it again."""
    store = Store()
    (part,) = store.write([b"".join(DOCUMENTS[:4]), b"".join(DOCUMENTS[4:])], 10)
    assert (part.first, part.last, part.records) == (DOCUMENTS[0], DOCUMENTS[-1], 7)
    assert (part.sha256, part.size) == (sha256_hex(store.parts[0]), len(store.parts[0]))


def test_the_same_documents_give_the_same_bytes() -> None:
    """The file contains no time and no name, and does not depend on the batches."""
    one = [part.sha256 for part in Store().write([b"".join(DOCUMENTS)], 3)]
    other = [part.sha256 for part in Store().write(DOCUMENTS, 3)]
    assert one == other


@given(st.lists(st.binary(max_size=2_000), min_size=1, max_size=60), st.integers(1, 60), st.integers(1, 60))
def test_a_part_has_the_bytes_of_one_document_after_the_other(
    values: list[bytes], size: int, batch: int
) -> None:
    """However they came: as `gzip.GzipFile` gives them when it is fed document by document."""
    documents = [bson.encode({"_id": number, "value": value}) for number, value in enumerate(values)]
    store = Store()
    store.write([b"".join(documents[i : i + batch]) for i in range(0, len(documents), batch)], size)
    for number, start in enumerate(range(0, len(documents), size)):
        file = BytesIO()
        with gzip.GzipFile("", "wb", 4, file, mtime=0) as stream:
            for document in documents[start : start + size]:
                stream.write(document)
        assert store.parts[number] == file.getvalue()


def test_batches_are_asked_for_as_they_are_needed() -> None:
    """Memory does not grow with the snapshot: reading goes a few batches ahead and then waits."""
    asked: list[int] = []

    def batches() -> Iterator[bytes]:
        for number in range(100):
            asked.append(number)
            yield DOCUMENTS[0]

    parts = write_parts(batches(), repeat(2), Store().begin)
    next(parts)
    assert len(asked) <= 6
    parts.close()  # type: ignore[attr-defined]


def test_parts_of_growing_sizes_are_cut_where_each_ends() -> None:
    """Also within a batch."""
    store = Store()
    parts = write_parts([b"".join(DOCUMENTS)], iter([1, 2, 4, 8]), store.begin)
    assert [part.records for part in parts] == [1, 2, 4]


def test_a_cursor_that_breaks_leaves_no_part_half_written() -> None:
    """Finished parts stay; the open part is aborted."""
    store = Store()

    def batches() -> Iterator[bytes]:
        yield b"".join(DOCUMENTS[:3])
        raise Transient("the database is away")

    with pytest.raises(Transient, match="database"):
        list(write_parts(batches(), repeat(2), store.begin))
    assert 1 not in store.parts
    assert set(store.begun) == store.parts.keys() | set(store.aborted)


def test_a_store_that_breaks_ends_the_writing_with_its_error() -> None:
    """Nobody waits for the thread that failed, and no part is finished after one that was not."""
    store = Store(fails=5)
    with pytest.raises(Transient, match="store"):
        list(write_parts(DOCUMENTS * 50, repeat(20), store.begin))
    assert (store.parts, store.begun, store.aborted) == ({}, [0], [0])


def test_a_caller_that_stops_leaves_no_part_half_written() -> None:
    """The caller may fail on one of the parts."""
    store = Store()
    parts = write_parts([*DOCUMENTS, *DOCUMENTS], repeat(3), store.begin)
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert set(store.begun) == store.parts.keys() | set(store.aborted)


def test_a_damaged_batch_ends_the_snapshot() -> None:
    """A document that is cut off is not silently dropped."""
    store = Store()
    with pytest.raises(Damaged, match="BSON document"):
        store.write([DOCUMENTS[0] + DOCUMENTS[1][:-1]], 10)
    assert store.parts == {}


@given(st.integers(1, len(b"".join(DOCUMENTS)) - 1))
def test_a_batch_that_ends_within_a_document_is_damaged(length: int) -> None:
    """Unless it ends where a document ends."""
    batch, store = b"".join(DOCUMENTS)[:length], Store()
    ends = {sum(map(len, DOCUMENTS[:count])) for count in range(len(DOCUMENTS) + 1)}
    if length in ends:
        store.write([batch], 10)
        assert gzip.decompress(store.parts[0]) == batch
    else:
        with pytest.raises(Damaged, match="BSON document"):
            store.write([batch], 10)


@given(st.binary(min_size=1, max_size=40))
def test_junk_ends_and_no_byte_of_it_is_dropped(junk: bytes) -> None:
    """A length of 0 does not keep the loop running for ever."""
    store = Store()
    with suppress(Damaged):
        store.write([junk], 100)
        assert gzip.decompress(store.parts[0]) == junk


def test_a_part_is_read_as_it_was_written() -> None:
    """In order."""
    (data,) = written(10)
    assert list(read_part(*stored(data))) == DOCUMENTS


@pytest.mark.parametrize("position", [0, 12, 40, -1])
def test_a_flipped_byte_is_noticed_before_the_first_document(position: int) -> None:
    """The sha256 of the manifest decides, not gzip's own check at the end."""
    (data,) = written(10)
    flipped = bytearray(data)
    flipped[position] ^= 1
    with pytest.raises(Damaged, match="sha256"):
        next(read_part(*stored(bytes(flipped), sha256_hex(data))))


@pytest.mark.parametrize("kept", [0, 1, 10, 50, -1])
def test_a_truncated_part_is_noticed_before_the_first_document(kept: int) -> None:
    """Readers never see a partial part."""
    (data,) = written(10)
    with pytest.raises(Damaged, match="sha256"):
        next(read_part(*stored(data[:kept], sha256_hex(data))))


@pytest.mark.parametrize("content", [b"".join(DOCUMENTS)[:-1], b"\0\0\0\0", b"\x07", b"\xff\xff\xff\x7fxx"])
def test_a_part_that_ends_within_a_document_is_damaged(content: bytes) -> None:
    """A digest says that the bytes are those that were written, not that they are BSON."""
    with pytest.raises(Damaged, match="ends within a document"):
        list(read_part(*stored(gzip.compress(content))))


def test_documents_larger_than_what_is_unpacked_at_once_are_read_whole() -> None:
    """And those that cross the border between two such chunks."""
    documents = [bson.encode({"_id": number, "x": b"x" * (number * 77_777)}) for number in range(9)]
    assert list(read_part(*stored(gzip.compress(b"".join(documents), 1)))) == documents


def test_a_part_that_is_not_there_is_named() -> None:
    """A missing object is not an empty part."""
    objects, part = stored(b"")
    objects.objects.clear()
    with pytest.raises(ObjectMissing, match=r"part\.bson\.gz"):
        next(read_part(objects, part))
