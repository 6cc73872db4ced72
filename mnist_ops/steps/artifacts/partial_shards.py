"""Shards read in part: the footer, then only the row groups and columns that are asked for.

For pages, which show a few rows of a shard that may have gigabytes of images. A part of an object cannot be
compared with the digest in its name: whoever shows an image compares its bytes with its own sha256.
"""

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.shard_kinds import RowT, ShardKind
from mnist_ops.steps.artifacts.shards import ShardHeader

# Bytes at the end of a shard that are read at once: they hold the footer of all but the largest shards, and
# the whole of a small one.
_TAIL_BYTES = 64 << 10


class _RangedObject(io.RawIOBase):
    """An object as a seekable file; what is read from it is requested from the store, and its end is kept."""

    def __init__(self, objects: ObjectStore, uri: str) -> None:
        super().__init__()
        self._objects, self._uri = objects, uri
        tail = objects.get_range(uri, -_TAIL_BYTES, _TAIL_BYTES)
        self._tail, self.size = tail.data, tail.size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        length = min(size if size >= 0 else self.size, self.size - self._position)
        if length <= 0:
            return b""
        in_tail = self._position - (self.size - len(self._tail))
        if in_tail >= 0:
            data = self._tail[in_tail : in_tail + length]
        else:
            data = self._objects.get_range(self._uri, self._position, length).data
        self._position += len(data)
        return data


@dataclass
class ReadBudget:
    """How many bytes may be read yet.

    Attributes:
        left: bytes.
        exceeded: whether something was left out.
    """

    left: int
    exceeded: bool = False

    def allows(self, size: int) -> bool:
        """Take `size` bytes, if there are that many; else note that they were left out."""
        allowed = size <= self.left
        self.left -= size if allowed else 0
        self.exceeded |= not allowed
        return allowed


class PartialShard(Generic[RowT]):
    """A shard in the store, open for reading some of its rows.

    Attributes:
        header: what it says of itself.
        records: the number of its rows.
    """

    def __init__(self, file: pq.ParquetFile, header: ShardHeader) -> None:
        self._file = file
        self.header = header
        self.records = int(file.metadata.num_rows)
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        self._starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]

    def slice(self, start: int, length: int, columns: Sequence[str]) -> pa.Table:
        """Up to `length` rows from a position, with some columns."""
        end = min(start + length, self.records)
        groups = [n for n, (first, stop) in enumerate(self._group_rows()) if first < end and stop > start]
        table = self._read(groups, columns)
        return table.slice(start - self._starts[groups[0]], end - start) if groups else table

    def take(self, rows: Sequence[int], columns: Sequence[str], budget: ReadBudget | None = None) -> pa.Table:
        """The rows at some positions, in their order, with some columns.

        A budget leaves out the rows of row groups for which it has too little: a column of a row group is
        read as a whole, however few of its rows are wanted.
        """
        tables = [self._read([], columns)]
        for number, (first, stop) in enumerate(self._group_rows()):
            inside = [row - first for row in rows if first <= row < stop]
            if inside and (budget is None or budget.allows(self._stored_bytes(number, columns))):
                tables.append(self._read([number], columns).take(inside))
        return pa.concat_tables(tables, promote_options="permissive")

    def _stored_bytes(self, number: int, columns: Sequence[str]) -> int:
        """The bytes of some columns of a row group, as stored."""
        group, names = self._file.metadata.row_group(number), self._file.schema_arrow
        positions = [names.get_field_index(column) for column in columns]
        return sum(int(group.column(position).total_compressed_size) for position in positions)

    def groups(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """The row groups, in order, with some columns, each with the position of its first row."""
        for number, (first, _) in enumerate(self._group_rows()):
            yield first, self._read([number], columns)

    def groups_with(
        self, column: str, values: Collection[str], columns: Sequence[str]
    ) -> Iterator[tuple[int, pa.Table]]:
        """Like `groups`, without those whose statistics exclude that a text column has one of some values."""
        position = self._file.schema_arrow.get_field_index(column)
        for number, (first, _) in enumerate(self._group_rows()):
            known = self._file.metadata.row_group(number).column(position).statistics
            unknown = known is None or not known.has_min_max
            if unknown or any(known.min <= value <= known.max for value in values):
                yield first, self._read([number], columns)

    def _group_rows(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._starts[1:], strict=False)

    def _read(self, groups: list[int], columns: Sequence[str]) -> pa.Table:
        # Without its threads: a page reads little, and the server has other requests to answer.
        return self._file.read_row_groups(groups, columns=list(columns), use_threads=False)


@contextmanager
def open_partial_shard(objects: ObjectStore, uri: str, kind: ShardKind[RowT]) -> Iterator[PartialShard[RowT]]:
    """Open a shard for reading some of its rows; reads its footer.

    Raises:
        ObjectMissing: it does not exist.
        Damaged: it is no shard of this kind.
    """
    try:
        file = pq.ParquetFile(_RangedObject(objects, uri), pre_buffer=True)
    except pa.ArrowInvalid as error:
        raise Damaged(f"{uri}: not a Parquet file ({error})") from error
    with file:
        header = ShardHeader.of(file.metadata.metadata, uri)
        if header.kind != kind.name:
            raise Damaged(f"{uri}: a shard of {header.kind}, expected {kind.name}")
        yield PartialShard(file, header)
