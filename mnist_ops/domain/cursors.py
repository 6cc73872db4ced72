"""Positions in lists that are read a page at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.moments import iso_moment
from mnist_ops.domain.records import RecordHead


@dataclass(frozen=True, slots=True)
class ReviewCursor:
    """A position in the list of the least certain predictions: that of the last record that was read.

    Attributes:
        confidence: its confidence, 0 to 1.
        id_json: its id, as canonical Extended JSON.
    """

    confidence: float
    id_json: str

    @staticmethod
    def of(head: RecordHead) -> "ReviewCursor | None":
        """The position of a record; None if it has no confidence to be sorted by."""
        confidence = (head.prediction or {}).get("confidence")
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            return None
        return ReviewCursor(float(confidence), head.id_json)


@dataclass(frozen=True, slots=True)
class LedgerCursor:
    """A position in the list of ledgers, newest first: that of the last ledger that was read.

    Its text goes into the address of the next page.

    Attributes:
        finished_at: when it was written (UTC).
        id: the id of its generation.
    """

    finished_at: datetime
    id: str

    def __str__(self) -> str:
        return f"{self.finished_at.isoformat()} {self.id}"

    @staticmethod
    def of(ledger: Mapping[str, object]) -> "LedgerCursor":
        """The position of a stored ledger."""
        finished_at = ledger["finished_at"]
        if not isinstance(finished_at, datetime):
            raise TypeError(f"{ledger['_id']}: its finished_at is no date")
        return LedgerCursor(finished_at, str(ledger["_id"]))

    @staticmethod
    def parse(text: str) -> "LedgerCursor":
        """Read back what `str` gave.

        Raises:
            UsageError: it is no such position.
        """
        moment, space, generation = text.partition(" ")
        if not space or not generation:
            raise UsageError(f"{text!r}: not a position in the list of runs; begin at its first page")
        return LedgerCursor(iso_moment(moment, "position"), generation)
