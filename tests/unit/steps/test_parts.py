"""Parts are gzipped, concatenated BSON, and every damage to one is noticed before it is used."""

import gzip
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.adapters.in_memory import InMemoryObjects
from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.manifest import Part
from mnist_ops.steps.parts import cut, read_part, write_parts

DOCUMENTS = [bson.encode({"_id": number, "text": "x" * number}) for number in range(7)]


def stored(data: bytes, promised: str | None = None) -> tuple[InMemoryObjects, Part]:
    """Return a store with a part in it, and the part as the manifest has it."""
    objects = InMemoryObjects()
    uri = objects.put_bytes("part.bson.gz", data)
    return objects, Part(0, uri, len(DOCUMENTS), len(data), promised or sha256_hex(data), "0", "6")


def written(folder: Path, size: int) -> list[bytes]:
    """Return the bytes of the part files of DOCUMENTS."""
    batches = [b"".join(DOCUMENTS[:3]), b"", b"".join(DOCUMENTS[3:])]
    return [part.path.read_bytes() for part in write_parts(batches, size, folder)]


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])])
def test_parts_are_cut_at_the_size_whatever_the_batches_are(
    tmp_path: Path, size: int, sizes: list[int]
) -> None:
    """The last may have fewer, and none is empty."""
    documents = [list(cut(gzip.decompress(data))) for data in written(tmp_path, size)]
    assert [len(part) for part in documents] == sizes
    assert [document for part in documents for document in part] == DOCUMENTS


def test_no_documents_make_no_part(tmp_path: Path) -> None:
    """An empty selection leaves nothing but its manifest."""
    assert list(write_parts([], 10, tmp_path)) == []
    assert list(write_parts([b""], 10, tmp_path)) == []


def test_a_part_tells_its_first_and_last_document_and_its_digest(tmp_path: Path) -> None:
    """So that the manifest need not read it again."""
    for part in write_parts([b"".join(DOCUMENTS)], 10, tmp_path):
        assert (part.first, part.last, part.records) == (DOCUMENTS[0], DOCUMENTS[-1], 7)
        assert part.sha256 == sha256_hex(part.path.read_bytes())
        assert part.size == part.path.stat().st_size


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    """No time and no name is in the file, and batches leave no trace."""
    one = [part.sha256 for part in write_parts([b"".join(DOCUMENTS)], 3, tmp_path)]
    other = [part.sha256 for part in write_parts(DOCUMENTS, 3, tmp_path)]
    assert one == other


def test_only_one_part_lies_on_disk_at_a_time(tmp_path: Path) -> None:
    """Disk use does not grow with the snapshot."""
    for _ in write_parts([b"".join(DOCUMENTS)], 1, tmp_path):
        assert len(list(tmp_path.iterdir())) == 1


def test_batches_are_asked_for_as_they_are_needed(tmp_path: Path) -> None:
    """Memory does not grow with the snapshot."""
    asked: list[int] = []

    def batches() -> Iterator[bytes]:
        for number, document in enumerate(DOCUMENTS):
            asked.append(number)
            yield document

    parts = write_parts(batches(), 2, tmp_path)
    next(parts)
    assert len(asked) == 2


@given(st.lists(st.dictionaries(st.text("abc", min_size=1), st.binary(max_size=9), max_size=3), max_size=5))
def test_cutting_gives_back_what_was_joined(documents: list[dict[str, object]]) -> None:
    """Document by document, byte by byte."""
    encoded = [bson.encode(document) for document in documents]
    assert list(cut(b"".join(encoded))) == encoded


@given(st.integers(1, len(b"".join(DOCUMENTS)) - 1))
def test_a_batch_that_ends_within_a_document_is_damaged(length: int) -> None:
    """Unless it ends just where a document does."""
    batch = b"".join(DOCUMENTS)[:length]
    ends = {sum(map(len, DOCUMENTS[:count])) for count in range(len(DOCUMENTS) + 1)}
    if length in ends:
        assert b"".join(cut(batch)) == batch
    else:
        with pytest.raises(Damaged, match="BSON document"):
            list(cut(batch))


@given(st.binary(min_size=1, max_size=40))
def test_junk_ends_and_is_never_passed_over(junk: bytes) -> None:
    """No length of 0 keeps the loop for ever, and no byte is dropped."""
    with suppress(Damaged):
        assert b"".join(cut(junk)) == junk


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    """In order."""
    (data,) = written(tmp_path, 10)
    assert list(read_part(*stored(data))) == DOCUMENTS


@pytest.mark.parametrize("position", [0, 12, 40, -1])
def test_a_flipped_byte_is_noticed_before_the_first_document(tmp_path: Path, position: int) -> None:
    """The sha256 of the manifest decides, not gzip's own check at the end."""
    (data,) = written(tmp_path, 10)
    flipped = bytearray(data)
    flipped[position] ^= 1
    with pytest.raises(Damaged, match="sha256"):
        next(read_part(*stored(bytes(flipped), sha256_hex(data))))


@pytest.mark.parametrize("kept", [0, 1, 10, 50, -1])
def test_a_truncated_part_is_noticed_before_the_first_document(tmp_path: Path, kept: int) -> None:
    """Readers never see a partial part."""
    (data,) = written(tmp_path, 10)
    with pytest.raises(Damaged, match="sha256"):
        next(read_part(*stored(data[:kept], sha256_hex(data))))


@pytest.mark.parametrize("content", [b"".join(DOCUMENTS)[:-1], b"\0\0\0\0", b"\x07", b"\xff\xff\xff\x7fxx"])
def test_a_part_whose_documents_do_not_come_out_even_is_damaged(content: bytes) -> None:
    """A digest says that the bytes are those that were written, not that they are BSON."""
    with pytest.raises(Damaged, match="ends within a document"):
        list(read_part(*stored(gzip.compress(content))))


def test_a_part_that_is_not_there_is_named() -> None:
    """An object that was swept too early is no empty part."""
    objects, part = stored(b"")
    objects.objects.clear()
    with pytest.raises(ObjectMissing, match=r"part\.bson\.gz"):
        next(read_part(objects, part))
