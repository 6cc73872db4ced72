"""What may be swept from the object store, and what must stay."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

# Only these are swept: data sets, trainings, evaluations, checkpoints and models stay for ever.
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
    """An upload in pieces that was neither completed nor aborted.

    Attributes:
        key: what it was to become.
        id: the store's name for it.
        started_at: when it began (UTC).
    """

    key: str
    id: str
    started_at: datetime


class Owner(NamedTuple):
    """Whose an object is.

    Attributes:
        run: the run key.
        generation: its number; None for objects of a snapshot, whose names do not tell.
    """

    run: str
    generation: int | None


class Verdict(StrEnum):
    """What becomes of an object."""

    DEBRIS = "debris"
    REFERENCED = "referenced"
    YOUNG = "young"
    UNSETTLED = "of an unfinished run"
    FOREIGN = "not ours"


@dataclass(frozen=True, slots=True)
class Retention:
    """How old debris must be.

    Attributes:
        older_than: the least age of debris of a run that is known to be finished.
        grace: the least age where that is not known.
    """

    older_than: timedelta = timedelta(days=30)
    grace: timedelta = timedelta(days=90)


@dataclass(slots=True)
class References:
    """What is in use.

    Attributes:
        keys: objects.
        folders: prefixes, each with a slash at its end, of which every object is in use.
        settled: when each finished generation's ledger was drawn up (UTC), by run and number.
        undecided: folders of snapshots that were committed by generations which are not settled.
    """

    keys: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    settled: dict[Owner, datetime] = field(default_factory=dict)
    undecided: set[str] = field(default_factory=set)

    def covers(self, key: str) -> bool:
        """Whether an object is in use."""
        return key in self.keys or folder_of(key) in self.folders

    def settles(self, entry: StoredObject, owner: Owner) -> bool:
        """Whether the ledger of an object's generation was drawn up after the object was written.

        It then names all that the generation is made of, and this is not among it. What is newer than
        the ledger belongs to tasks that ran again, and nobody knows yet what becomes of them.
        """
        if owner.generation is not None:
            finished = self.settled.get(owner)
            return finished is not None and finished > entry.modified_at
        if folder_of(entry.key) in self.undecided:
            return False
        return any(
            finished > entry.modified_at for other, finished in self.settled.items() if other.run == owner.run
        )


def folder_of(key: str) -> str:
    """Everything up to the last slash, the slash included."""
    return key[: key.rfind("/") + 1]


def owner_of(key: str) -> Owner | None:
    """Whose an object is by its key; None for what no step of ours has written."""
    if match := _OF_SNAPSHOT.fullmatch(key):
        return Owner(match["run"], None)
    for pattern in _OF_GENERATION:
        if match := pattern.fullmatch(key):
            return Owner(match["run"], int(match["number"]))
    return None


def judge(entry: StoredObject, references: References, rule: Retention, now: datetime) -> Verdict:
    """What becomes of an object.

    Args:
        entry: the object.
        references: what is in use.
        rule: how old debris must be.
        now: the time (UTC).
    """
    owner = owner_of(entry.key)
    if owner is None:
        return Verdict.FOREIGN
    if references.covers(entry.key):
        return Verdict.REFERENCED
    age = now - entry.modified_at
    if age <= rule.older_than:
        return Verdict.YOUNG
    if age > rule.grace or references.settles(entry, owner):
        return Verdict.DEBRIS
    return Verdict.UNSETTLED


class Heap(NamedTuple):
    """A number of objects.

    Attributes:
        number: how many.
        size: of all together, in bytes.
    """

    number: int = 0
    size: int = 0

    def with_object(self, entry: StoredObject) -> "Heap":
        """One more."""
        return Heap(self.number + 1, self.size + entry.size)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found, and did.

    Attributes:
        debris: what may go, by kind.
        kept: what stays, by the reason why.
        uploads: uploads that somebody gave up.
        deleted: how many objects and uploads are gone.
        spared: keys that came into use while the sweep went on.
        failed: what the store said where it would not delete, by key.
    """

    debris: Mapping[str, Heap]
    kept: Mapping[Verdict, Heap]
    uploads: int
    deleted: int = 0
    spared: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)
