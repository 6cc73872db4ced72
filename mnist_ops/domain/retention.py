"""Which objects garbage collection may delete from the object store, and which must stay."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

# Only these are collected: data sets, trainings, evaluations, checkpoints and models stay for ever.
KINDS = ("snapshots", "images", "predictions", "outcomes", "assessments")

_RUN, _NUMBER, _SHA256 = r"(?P<run>[^/]+/[^/]+)", r"(?P<number>\d+)", r"[0-9a-f]{64}"
_OF_SNAPSHOT = re.compile(rf"snapshots/{_RUN}/[^/]+/(part-\d{{5,}}\.bson\.gz|manifest-{_SHA256}\.json)")
_OF_GENERATION = (
    re.compile(rf"(images|predictions|outcomes)/{_RUN}/{_NUMBER}/part-\d{{5,}}-{_SHA256}\.parquet"),
    re.compile(rf"assessments/{_RUN}/{_NUMBER}/assessment-{_SHA256}\.json"),
)


class StoredObject(NamedTuple):
    """An object as a listing shows it.

    Attributes:
        key: its name, relative to the prefix.
        size: in bytes.
        modified_at: when it was written (UTC), by the store's clock.
    """

    key: str
    size: int
    modified_at: datetime


class UnfinishedUpload(NamedTuple):
    """A multipart upload that was neither completed nor aborted.

    Attributes:
        key: of the object that it would have become.
        id: the store's upload id.
        started_at: when it began (UTC).
    """

    key: str
    id: str
    started_at: datetime


class Owner(NamedTuple):
    """The run, and where its key names it the generation, that wrote an object.

    Attributes:
        run: the run key.
        generation: its number; None for objects of a snapshot, whose keys do not hold it.
    """

    run: str
    generation: int | None


class Disposition(StrEnum):
    """Whether an object is garbage, or why it stays."""

    GARBAGE = "garbage"
    REFERENCED = "referenced"
    YOUNG = "young"
    UNFINISHED_RUN = "of an unfinished run"
    FOREIGN = "not ours"


@dataclass(frozen=True, slots=True)
class Retention:
    """How old an object that nothing refers to must be before it is deleted.

    Attributes:
        older_than: the minimum age where the object's run is known to be finished.
        grace: the minimum age where that is not known.
    """

    older_than: timedelta = timedelta(days=30)
    grace: timedelta = timedelta(days=90)


@dataclass(slots=True)
class References:
    """The objects that are in use.

    Attributes:
        keys: of single objects.
        folders: prefixes, each with a slash at its end, of which every object is in use.
        finished_at: when the ledger of each finished generation was written (UTC).
        unfinished_snapshots: folders of the snapshots of generations that are not finished.
    """

    keys: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    finished_at: dict[Owner, datetime] = field(default_factory=dict)
    unfinished_snapshots: set[str] = field(default_factory=set)

    def contains(self, key: str) -> bool:
        """Whether an object is in use."""
        return key in self.keys or folder_of(key) in self.folders

    def ledger_is_newer(self, entry: StoredObject, owner: Owner) -> bool:
        """Whether the ledger of an object's generation was written after the object.

        Such a ledger names everything that the generation is made of. An object that is newer than the
        ledger belongs to tasks that ran again, and whether it will be used is not known yet.
        """
        if owner.generation is not None:
            finished = self.finished_at.get(owner)
            return finished is not None and finished > entry.modified_at
        if folder_of(entry.key) in self.unfinished_snapshots:
            return False
        return any(
            finished > entry.modified_at
            for other, finished in self.finished_at.items()
            if other.run == owner.run
        )


def folder_of(key: str) -> str:
    """The key up to its last slash, the slash included."""
    return key[: key.rfind("/") + 1]


def owner_of(key: str) -> Owner | None:
    """Who wrote an object, by its key; None where no step of ours gives such keys."""
    if match := _OF_SNAPSHOT.fullmatch(key):
        return Owner(match["run"], None)
    for pattern in _OF_GENERATION:
        if match := pattern.fullmatch(key):
            return Owner(match["run"], int(match["number"]))
    return None


def decide(entry: StoredObject, references: References, rule: Retention, now: datetime) -> Disposition:
    """Decide whether an object is garbage.

    Args:
        entry: the object.
        references: what is in use.
        rule: how old garbage must be.
        now: the time (UTC).
    """
    owner = owner_of(entry.key)
    if owner is None:
        return Disposition.FOREIGN
    if references.contains(entry.key):
        return Disposition.REFERENCED
    age = now - entry.modified_at
    if age <= rule.older_than:
        return Disposition.YOUNG
    if age > rule.grace or references.ledger_is_newer(entry, owner):
        return Disposition.GARBAGE
    return Disposition.UNFINISHED_RUN


class ObjectTotals(NamedTuple):
    """The number and size of some objects.

    Attributes:
        number: how many objects.
        size: of all together, in bytes.
    """

    number: int = 0
    size: int = 0

    def plus(self, entry: StoredObject) -> "ObjectTotals":
        """The totals with one more object."""
        return ObjectTotals(self.number + 1, self.size + entry.size)


@dataclass(frozen=True, slots=True)
class GcResult:
    """What a garbage collection found and deleted.

    Attributes:
        garbage: what may be deleted, by kind.
        kept: what stays, by the reason.
        uploads: the number of abandoned uploads.
        deleted: how many objects and uploads were deleted.
        reused: keys that were listed as garbage and came into use before they were deleted; they stay.
        failed: the store's message where it did not delete, by key.
    """

    garbage: Mapping[str, ObjectTotals]
    kept: Mapping[Disposition, ObjectTotals]
    uploads: int
    deleted: int = 0
    reused: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)
