"""The selection: which records a generation takes."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead


def whole_milliseconds(moment: datetime) -> datetime:
    """A point in time, cut to the whole milliseconds that MongoDB can store."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Reclassify(StrEnum):
    """Which records with a prediction are taken again; human-labelled records never are."""

    NEVER = "never"
    STALE = "stale"
    CHANGED = "changed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Selection:
    """The rule for which records a generation takes.

    Attributes:
        at: the selection time (UTC, whole milliseconds); failures due by then are retried.
        since: the earliest creation time taken; None also takes records without a usable creation time.
        until: records created before this are taken; None for no limit.
        reclassify: which records with a prediction are taken too.
        limit: the largest number of records, the oldest first; None for no limit.
        labelled: take all human-labelled records instead of the waiting ones.
        champion: the digest of the bundle in production; `stale` compares with it.
    """

    at: datetime
    since: datetime | None = None
    until: datetime | None = None
    reclassify: Reclassify = Reclassify.NEVER
    limit: int | None = None
    labelled: bool = False
    champion: str | None = None

    def __post_init__(self) -> None:
        if self.since and self.until and self.since >= self.until:
            raise Permanent(
                f"since: {self.since.isoformat()} is not before until: {self.until.isoformat()}; "
                "give an earlier since or a later until"
            )
        if self.limit is not None and self.limit < 1:
            raise Permanent(f"limit: {self.limit}; give a number of at least 1, or none")


def takes(selection: Selection, head: RecordHead) -> bool:
    """Whether a selection takes a record; the limit is not considered.

    This is the rule. Adapters translate it into their database's query language, and the contract tests
    compare them with it.
    """
    if selection.labelled:
        return head.label is not None
    if head.label is not None or not _created_in_window(selection, head):
        return False
    if selection.reclassify == Reclassify.ALL:
        return True
    return _wanted(selection, head) and not _failure_blocks(selection, head)


def _created_in_window(selection: Selection, head: RecordHead) -> bool:
    if head.created_at is None:
        return selection.since is None
    if selection.since is not None and head.created_at < selection.since:
        return False
    return selection.until is None or head.created_at < selection.until


def _wanted(selection: Selection, head: RecordHead) -> bool:
    if head.stamp.digest is None:
        return True
    if selection.reclassify == Reclassify.STALE:
        return selection.champion is not None and head.stamp.digest != selection.champion
    return selection.reclassify == Reclassify.CHANGED and _predicted_url(head) != head.image_url


def _predicted_url(head: RecordHead) -> object:
    image = (head.prediction or {}).get("image")
    return image.get("url") if isinstance(image, dict) else None


def _failure_blocks(selection: Selection, head: RecordHead) -> bool:
    failure = head.failure
    if failure.attempts == 0 or failure.image_url != head.image_url:
        return False
    if failure.reason == Reason.BAD_CREATED_AT and head.created_at is not None:
        return False  # the record has got a creation time since
    due = failure.next_attempt_at
    return not (isinstance(due, datetime) and due <= selection.at)
