"""Records in memory, for tests and for trying a step out."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import bson

from mnist_ops.adapters.mongo.bson_documents import (
    CODEC,
    Document,
    decode,
    given_id,
    head_of,
    id_json,
    json_values,
)
from mnist_ops.domain.records import (
    HISTORY_LENGTH,
    Change,
    EmptyCollection,
    FieldNames,
    Prediction,
    PredictionFailure,
    RecordHead,
    WriteReport,
)
from mnist_ops.domain.selection import Selection, takes

# Makes a batch of writes atomic, as a database would. Of the module, so that stores can be copied.
_LOCK = threading.Lock()


class InMemoryRecords:
    """Records in a dictionary, in the order of their insertion. Implements `RecordStore`.

    They are kept as they would be in MongoDB: encoded as BSON and decoded again.

    Attributes:
        before_write: called before every batch of changes, so that a test can change records meanwhile.
    """

    def __init__(self, fields: FieldNames | None = None) -> None:
        self._fields = fields or FieldNames()
        self._documents: dict[str, Document] = {}
        self._exists = False
        self._indexed = False
        self.before_write: Callable[[], None] = lambda: None

    def insert(self, *documents: Mapping[str, object]) -> None:
        """Add records, through BSON."""
        self._exists = True
        for document in documents:
            stored = decode(bson.encode(document, codec_options=CODEC))
            self._documents[id_json(stored["_id"])] = stored

    def document(self, record_id: object) -> Document:
        """Return a copy of one record. Raises KeyError."""
        return copy.deepcopy(self._documents[id_json(record_id)])

    def documents(self) -> list[Document]:
        """Return copies of all records."""
        return copy.deepcopy(list(self._documents.values()))

    def delete(self, record_id: object) -> None:
        """Remove one record. Raises KeyError."""
        del self._documents[id_json(record_id)]

    @property
    def fields(self) -> FieldNames:
        """The names of the records' fields."""
        return self._fields

    def edit(self, key: str, change: Callable[[Document], bool]) -> bool:
        """Change one record in place, atomically.

        Args:
            key: its `id_json`.
            change: is given the record as it is stored; returns False if it leaves it alone.

        Returns:
            Whether there is such a record, and it was changed.
        """
        with _LOCK:
            document = self._documents.get(key)
            return document is not None and change(document)

    def ensure_indexes(self) -> Sequence[str]:
        self._exists = self._indexed = True
        return ["mnist_ops_selection"]

    def missing_indexes(self) -> Sequence[str]:
        return [] if self._indexed else ["mnist_ops_selection"]

    def empty_collection(self) -> EmptyCollection | None:
        return None if self._documents else EmptyCollection("memory.records", self._exists)

    def count(self, selection: Selection, limit_s: float | None = None) -> int:  # noqa: ARG002 (at once)
        return len(self._selected(selection))

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        encoded = [bson.encode(document, codec_options=CODEC) for document in self._selected(selection)]
        for start in range(0, len(encoded), 101):
            yield b"".join(encoded[start : start + 101])

    def _selected(self, selection: Selection) -> list[Document]:
        taken = [
            (head.created_at.timestamp() if head.created_at else float("-inf"), document)
            for document in self._documents.values()
            if takes(selection, head := head_of(document, self._fields))
        ]
        if selection.limit is not None:
            taken = sorted(taken, key=lambda pair: pair[0])[: selection.limit]
        return [document for _, document in taken]

    def head(self, document: bytes) -> RecordHead:
        return head_of(decode(document), self._fields)

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        self.before_write()
        matched, refused = 0, {}
        with _LOCK:
            for index, change in enumerate(changes):
                if not self._matches(change):
                    continue
                if self._can_take(change):
                    self._apply(change)
                    matched += 1
                else:
                    refused[index] = "prediction_history is no array"
        return WriteReport(matched, refused)

    def _matches(self, change: Change) -> bool:
        document = self._documents.get(change.head.id_json)
        return document is not None and self._unchanged(change, head_of(document, self._fields))

    def _can_take(self, change: Change) -> bool:
        """Whether MongoDB would take the change: it pushes onto arrays only."""
        history = self._documents[change.head.id_json].get(self._fields.prediction_history, [])
        pushes = isinstance(change.outcome, Prediction) and change.head.prediction is not None
        return isinstance(history, list) or not pushes

    def _apply(self, change: Change) -> None:
        document, fields = self._documents[change.head.id_json], self._fields
        written = bson.decode(bson.encode(change.outcome.document()), codec_options=CODEC)
        if isinstance(change.outcome, PredictionFailure):
            document[fields.prediction_failure] = written
            return
        if change.head.prediction is not None:
            history = document.get(fields.prediction_history, [])
            former = [dict(change.head.prediction), *(history if isinstance(history, list) else [])]
            document[fields.prediction_history] = former[:HISTORY_LENGTH]
        document[fields.prediction] = written
        document.pop(fields.prediction_failure, None)

    @staticmethod
    def _unchanged(change: Change, now: RecordHead) -> bool:
        then = change.head
        if (now.label, now.stamp, now.image_url) != (then.label, then.stamp, then.image_url):
            return False
        if isinstance(change.outcome, PredictionFailure):
            return (now.failure.run, now.failure.last_at) == (then.failure.run, then.failure.last_at)
        return True

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        keys = [id_json(given_id(text)) for text in ids]
        return {key: head_of(self._documents[key], self._fields) for key in keys if key in self._documents}

    def whole(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        keys = [id_json(given_id(text)) for text in ids]
        return {key: json_values(self._documents[key]) for key in keys if key in self._documents}
