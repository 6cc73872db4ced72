"""The files of a multipart body, read piece by piece and kept within limits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from mnist_ops.serving.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


_MAX_FIELDS = 16  # that are no files


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of a multipart body.

    Attributes:
        name: the client's name of it.
        content: its bytes; of a file that is over the limit only the first ones.
        size: its size in bytes.
    """

    name: str
    content: bytes
    size: int


class MultipartFiles:
    """Collects the files of a multipart body. A few fields that are no files are ignored.

    Args:
        content_type: the header of the request.
        max_files: more are refused.
        max_bytes: of a file; what exceeds it is counted and not kept.

    Raises:
        Problem: 400, the header names no boundary.
    """

    def __init__(self, content_type: str, *, max_files: int, max_bytes: int) -> None:
        self.files: list[UploadedFile] = []
        self._max_files, self._max_bytes = max_files, max_bytes
        self._complete = False
        self._fields = 0  # and files
        self._field, self._value = bytearray(), bytearray()
        self._name: str | None = None
        self._kept, self._size = bytearray(), 0
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begins,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_ends,
            "on_part_data": self._part_data,
            "on_part_end": self._part_ends,
            "on_end": self._body_ends,
        }
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _unreadable("the Content-Type names no boundary")
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _unreadable(str(error)) from error

    def write(self, data: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            Problem: 400, it is no multipart body; 413, it has too many files.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _unreadable(str(error)) from error

    def finish(self) -> list[UploadedFile]:
        """The files, once the body has ended.

        Raises:
            Problem: 400, the body ended before its last boundary, or it has no file.
        """
        if not self._complete:
            raise _unreadable("it ends before its last boundary")
        if not self.files:
            raise Problem(400, "There is no file", "The multipart body has no part with a file name.")
        return self.files

    def _part_begins(self) -> None:
        self._fields += 1
        if self._fields > self._max_files + _MAX_FIELDS:
            raise Problem(413, "There are too many fields", "Send files only.")
        self._name = None
        self._kept, self._size = bytearray(), 0

    def _header_ends(self) -> None:
        if self._field.lower() == b"content-disposition":
            name = parse_options_header(bytes(self._value))[1].get(b"filename")
            if name is not None:
                self._name = name.decode(errors="replace")
                if len(self.files) == self._max_files:
                    detail = f"At most {self._max_files} in one request; send the others in the next one."
                    raise Problem(413, "There are too many files", detail)
        self._field, self._value = bytearray(), bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is not None:
            self._size += end - start
            # One byte more than allowed, so that its size is over the limit for whoever looks at it.
            self._kept += data[start : min(end, start + self._max_bytes + 1 - len(self._kept))]

    def _part_ends(self) -> None:
        if self._name is not None:
            self.files.append(UploadedFile(self._name, bytes(self._kept), self._size))

    def _body_ends(self) -> None:
        self._complete = True


def _unreadable(why: str) -> Problem:
    return Problem(400, "The multipart body cannot be read", f"{why[:1].upper()}{why[1:]}.")
