"""The selection: which records a generation takes."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead


def whole_milliseconds(moment: datetime) -> datetime:
    """A point in time, cut to the whole milliseconds that MongoDB can store."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Reclassify(StrEnum):
    """Which records are taken besides the waiting ones; human-labelled records never are.

    `failed` takes records whose failure is permanent, or due beside a prediction; the others take predicted
    records.
    """

    NEVER = "never"
    FAILED = "failed"
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
        reclassify: which records are taken besides the waiting ones.
        limit: the largest number of records, the oldest first; None for no limit.
        labelled: take all human-labelled records instead of the waiting ones.
        champion: the digest of the bundle in production; `stale` compares with it.
        reasons: `failed` takes failures with one of these reasons; empty for any reason.
    """

    at: datetime
    since: datetime | None = None
    until: datetime | None = None
    reclassify: Reclassify = Reclassify.NEVER
    limit: int | None = None
    labelled: bool = False
    champion: str | None = None
    reasons: frozenset[Reason] = frozenset()

    def __post_init__(self) -> None:
        if self.since and self.until and self.since >= self.until:
            raise UsageError(
                f"since: {self.since.isoformat()} is not before until: {self.until.isoformat()}; "
                "give an earlier since or a later until"
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit: {self.limit}; give a number of at least 1, or none")
        if self.reasons and self.reclassify is not Reclassify.FAILED:
            raise UsageError(f"reclassify: {self.reclassify} takes no reasons; only failed does")


def parse_reclassify(text: str, source: str = "reclassify") -> tuple[Reclassify, frozenset[Reason]]:
    """Parse a policy: `never`, `failed`, `failed:REASON,REASON…`, `stale`, `changed` or `all`.

    Args:
        text: the policy.
        source: the parameter or option, for the error.

    Returns:
        The policy, and the reasons of the failures that `failed` takes; none for any reason.

    Raises:
        UsageError: an unknown policy or reason, with the nearest known one; or reasons without `failed`.
    """
    name, colon, rest = str(text).partition(":")
    policy = Reclassify(_known(name, Reclassify, source, f"give one of {', '.join(Reclassify)}"))
    if not colon:
        return policy, frozenset()
    if policy is not Reclassify.FAILED:
        raise UsageError(f"{source}: {policy} takes no reasons; only failed does")
    listed = "`mnist-ops records list --help` lists the reasons"
    return policy, frozenset(Reason(_known(reason, Reason, source, listed)) for reason in rest.split(","))


def _known(text: str, names: Iterable[str], source: str, listed: str) -> str:
    """The text without spaces around it. If it is no name, a UsageError has the nearest, or `listed`."""
    name, known = text.strip(), [str(each) for each in names]
    if name in known:
        return name
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else listed
    raise UsageError(f"{source}: {name!r} is unknown; {hint}")


def takes(selection: Selection, head: RecordHead) -> bool:
    """Whether a selection takes a record; the limit is not considered.

    This is the rule. Adapters translate it into their database's query language, and the contract tests
    compare them with it.
    """
    if selection.labelled:
        return head.label is not None
    if head.label is not None or not _created_in_window(selection, head):
        return False
    if selection.reclassify == Reclassify.ALL or _asked_for_again(selection, head):
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


def _asked_for_again(selection: Selection, head: RecordHead) -> bool:
    """Whether `failed` takes the record for its failure: for a reason asked for, and permanent or due."""
    if selection.reclassify != Reclassify.FAILED or not head.failed_here:
        return False
    failure = head.failure
    if selection.reasons and not (isinstance(failure.reason, str) and failure.reason in selection.reasons):
        return False
    return failure.next_attempt_at is None or failure.next_attempt_at <= selection.at


def _failure_blocks(selection: Selection, head: RecordHead) -> bool:
    failure = head.failure
    if not head.failed_here:
        return False
    if failure.reason == Reason.BAD_CREATED_AT and head.created_at is not None:
        return False  # the record has got a creation time since
    return failure.next_attempt_at is None or failure.next_attempt_at > selection.at
