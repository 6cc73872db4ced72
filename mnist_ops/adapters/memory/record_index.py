"""What pages ask of records in memory, for tests and for trying a page out."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import bson

from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.mongo.bson_documents import CODEC, Document, head_of, value_at
from mnist_ops.domain.cursors import ReviewCursor
from mnist_ops.domain.record_index import BoundedCount, LabelChange, fingerprint, is_review_of
from mnist_ops.domain.records import NO_FAILURE, RecordHead
from mnist_ops.domain.selection import Selection, takes


class InMemoryRecordIndex:
    """Looks at every record of an `InMemoryRecords`. Implements `RecordIndex`."""

    def __init__(self, records: InMemoryRecords) -> None:
        self._records = records
        self._fields = records.fields

    def _heads(self) -> Iterator[RecordHead]:
        return (head_of(document, self._fields) for document in self._records.documents())

    def waiting(self, at: datetime, limit: int) -> BoundedCount:
        waiting = sum(
            takes(Selection(at, until=at), head) and not _failed_for_good(head) for head in self._heads()
        )
        return _bounded(waiting, limit)

    def oldest_waiting(self, at: datetime) -> datetime | None:
        untried = (head for head in self._heads() if _unpredicted(head) and head.failure == NO_FAILURE)
        created = [head.created_at for head in untried if head.created_at is not None]
        return min((moment for moment in created if moment < at), default=None)

    def in_review(self, limit: int) -> BoundedCount:
        return _bounded(len(self._uncertain()), limit)

    def _uncertain(self) -> list[RecordHead]:
        """What is in review, the least certain first."""
        heads = [
            (cursor.confidence, cursor.id_json, head)
            for head in self._heads()
            if head.label is None
            and (head.prediction or {}).get("needs_review") is True
            and (cursor := ReviewCursor.of(head))
        ]
        return [head for *_, head in sorted(heads, key=lambda place: place[:2])]

    def permanently_failed(self, at: datetime, limit: int) -> BoundedCount:
        unpredicted = (head for head in self._heads() if _unpredicted(head) and _created_before(at, head))
        return _bounded(sum(_failed_for_good(head) for head in unpredicted), limit)

    def least_certain(self, after: ReviewCursor | None, limit: int) -> Sequence[RecordHead]:
        place = (after.confidence, after.id_json) if after else (-1.0, "")
        behind = [head for head in self._uncertain() if _place(head) > place]
        return behind[:limit]

    def ids_of_url(self, url: str, limit: int) -> Sequence[str]:
        return [head.id_json for head in self._heads() if head.image_url == url][:limit]

    def set_label(self, change: LabelChange) -> bool:
        def write(document: Document) -> bool:
            if fingerprint(head_of(document, self._fields)) != fingerprint(change.head):
                return False
            was_set, was = _existing(document, self._fields.label)
            review = {**change.document(), "was": was, "was_set": was_set}
            document[self._fields.label_review] = bson.decode(bson.encode(review), codec_options=CODEC)
            _set(document, self._fields.label, change.label)
            return True

        return self._records.edit(change.head.id_json, write)

    def undo_label(self, id_json: str, by: str, at: datetime) -> bool:
        def write(document: Document) -> bool:
            head = head_of(document, self._fields)
            review = head.label_review
            if review is None or not is_review_of(review, by, at) or review.get("label") != head.label:
                return False
            if review.get("was_set"):
                _set(document, self._fields.label, review.get("was"))
            else:
                _unset(document, self._fields.label)
            del document[self._fields.label_review]
            return True

        return self._records.edit(id_json, write)

    def clear_failure(self, head: RecordHead) -> bool:
        def write(document: Document) -> bool:
            now = head_of(document, self._fields)
            same = (now.failure, now.image_url) == (head.failure, head.image_url)
            if same and head.failure != NO_FAILURE:
                del document[self._fields.prediction_failure]
            return same and head.failure != NO_FAILURE

        return self._records.edit(head.id_json, write)


def _bounded(count: int, limit: int) -> BoundedCount:
    return BoundedCount(min(count, limit), more=count > limit)


def _unpredicted(head: RecordHead) -> bool:
    return head.label is None and head.stamp.digest is None


def _failed_for_good(head: RecordHead) -> bool:
    return head.failure.attempts > 0 and head.failure.next_attempt_at is None


def _created_before(at: datetime, head: RecordHead) -> bool:
    return head.created_at is None or head.created_at < at


def _place(head: RecordHead) -> tuple[float, str]:
    cursor = ReviewCursor.of(head)
    return (cursor.confidence, cursor.id_json) if cursor else (-1.0, "")


def _existing(document: Document, path: str) -> tuple[bool, object]:
    """Whether there is a value at a dotted path, and the value."""
    *parents, name = path.split(".")
    parent = value_at(document, ".".join(parents)) if parents else document
    return (name in parent, parent.get(name)) if isinstance(parent, dict) else (False, None)


def _set(document: Document, path: str, value: object) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        inner = document.get(parent)
        if not isinstance(inner, dict):
            inner = document[parent] = {}
        document = inner
    document[name] = value


def _unset(document: Document, path: str) -> None:
    *parents, name = path.split(".")
    parent = value_at(document, ".".join(parents)) if parents else document
    if isinstance(parent, dict):
        parent.pop(name, None)
