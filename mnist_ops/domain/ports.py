"""The ports: the interfaces that steps use and adapters implement."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mnist_ops.domain.champions import ChampionChange, Promotion
from mnist_ops.domain.cursors import LedgerCursor, ReviewCursor
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.images import FetchOutcome, Validators
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import HoldRelease, Ledger
from mnist_ops.domain.record_index import BoundedCount, LabelChange
from mnist_ops.domain.records import BundleRef, Change, EmptyCollection, RecordHead, WriteReport
from mnist_ops.domain.retention import StoredObject, UnfinishedUpload
from mnist_ops.domain.selection import Selection


class Upload(Protocol):
    """An upload of one object, which exists only once it is finished. Not thread-safe."""

    def write(self, data: bytes) -> None:
        """Add bytes; they are sent as they come, and a bounded number of them is kept in memory."""

    def finish(self) -> str:
        """Complete the object and return its URI."""

    def abort(self) -> None:
        """Abort and leave nothing behind. Never raises. Does nothing once `finish` has succeeded."""


@dataclass(frozen=True, slots=True)
class ObjectRange:
    """Some bytes of an object.

    Attributes:
        data: the bytes.
        size: of the whole object, in bytes.
    """

    data: bytes
    size: int


class ObjectStore(Protocol):
    """Immutable objects by key. Keys are relative. URIs are absolute and never change."""

    @property
    def requests(self) -> Mapping[str, int]:
        """The running count of requests, by kind."""

    @property
    def moved(self) -> Mapping[str, int]:
        """The running count of bytes of objects, `sent` and `received`."""

    def upload_requests(self, size: int) -> Mapping[str, int]:
        """The requests that storing an object of `size` bytes takes without retries, by kind."""

    def uri(self, key: str) -> str:
        """The URI of a key's object, whether it exists or not."""

    def put_bytes(self, key: str, data: bytes) -> str:
        """Write a small object and return its URI."""

    def put_file(self, key: str, path: Path) -> str:
        """Write a file of any size and return its URI."""

    def upload(self, key: str) -> Upload:
        """Begin the upload of an object whose bytes are not known yet."""

    def get_bytes(self, uri: str) -> bytes:
        """Read a small object. Raises ObjectMissing."""

    def get_range(self, uri: str, start: int, length: int) -> "ObjectRange":
        """Read up to `length` bytes of an object, at least 1, from an offset within it.

        Args:
            uri: the object's URI.
            start: the offset in bytes; a negative one counts from the end of the object.
            length: bytes; those after the end of the object are left out.

        Raises:
            ObjectMissing: there is no such object.
        """

    def get_file(self, uri: str, path: Path) -> None:
        """Read an object of any size into a file. Raises ObjectMissing."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with a prefix, in no particular order."""


class GarbageStore(Protocol):
    """Lists the objects of the store with their ages, and deletes them.

    A port of its own, which only garbage collection takes: the other steps cannot name its methods.
    """

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys begin with a prefix."""

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Delete objects; returns the store's message for each that it did not delete, by key.

        An object that does not exist counts as deleted.
        """

    def unfinished_uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """The multipart uploads below a prefix that were neither completed nor aborted."""

    def abort(self, upload: UnfinishedUpload) -> None:
        """Abort an upload, which frees the space of its parts; does nothing where it no longer exists."""


class RecordStore(Protocol):
    """The user's records."""

    def ensure_indexes(self) -> Sequence[str]:
        """Make the indexes that selections need; returns their names. Safe to repeat."""

    def missing_indexes(self) -> Sequence[str]:
        """The names of indexes that `ensure_indexes` would make."""

    def empty_collection(self) -> EmptyCollection | None:
        """The collection of the records if it holds none, or does not exist; else None."""

    def count(self, selection: Selection, limit_s: float | None = None) -> int:
        """How many records a selection takes now, the limit included.

        Raises:
            Transient: it takes longer than `limit_s` seconds.
        """

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        """The selected records as they are stored: concatenated BSON documents."""

    def head(self, document: bytes) -> RecordHead:
        """Read the fields that the pipeline uses from one BSON document."""

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write changes, each only if its record is as it was when the snapshot was taken; never inserts.

        Raises:
            OutcomeUnknown: the reply was lost; read the records back.
        """

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        """The current heads of records, by `id_json`; records that no longer exist are left out.

        Args:
            ids: as canonical Extended JSON.

        Raises:
            UsageError: one of them is no canonical Extended JSON.
        """

    def whole(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        """The current records by canonical id, in relaxed Extended JSON; missing ones are left out.

        Args:
            ids: as canonical Extended JSON.

        Raises:
            UsageError: one of them is no canonical Extended JSON.
        """


class RecordIndex(Protocol):
    """What pages ask of the user's records, and what reviewers write.

    Every answer is bounded, and comes from an index: it costs the same in a collection of any size.
    """

    def waiting(self, at: datetime, limit: int) -> BoundedCount:
        """How many records the next scheduled run would take: never tried, or due for another attempt.

        Not counted, although a run takes them: records that failed for good and whose URL was edited since,
        and those whose creation time is neither a date nor missing.

        Args:
            at: now (UTC).
            limit: counting stops here.
        """

    def oldest_waiting(self, at: datetime) -> datetime | None:
        """The earliest creation time (UTC) of the waiting records that no run has tried yet.

        None if there is none, or if none of them has a creation time before `at`.
        """

    def in_review(self, limit: int) -> BoundedCount:
        """How many predictions are marked for review and have no human label."""

    def permanently_failed(self, at: datetime, limit: int) -> BoundedCount:
        """How many records without a prediction have a failure that no run tries again.

        Records with such a failure whose URL was edited since are included, until a run takes them.

        Args:
            at: now (UTC).
            limit: counting stops here.
        """

    def least_certain(self, after: ReviewCursor | None, limit: int) -> Sequence[RecordHead]:
        """Records whose prediction is marked for review and which have no human label.

        Ascending by confidence, then by `_id`.

        Args:
            after: the position to continue from; None for the beginning.
            limit: the largest number of records.
        """

    def ids_of_url(self, url: str, limit: int) -> Sequence[str]:
        """The ids of records with this image URL, as canonical Extended JSON, in no particular order."""

    def set_label(self, change: LabelChange) -> bool:
        """Write a reviewer's label; False, and nothing written, if the record has changed or is gone.

        Raises:
            Transient: the database did not answer, and does not show the label.
        """

    def undo_label(self, id_json: str, by: str, at: datetime) -> bool:
        """Restore the label that a review replaced, and remove the review.

        False, and nothing written, unless the record still has the label and the review that `by` wrote at
        `at`.
        """

    def clear_failure(self, head: RecordHead) -> bool:
        """Remove a record's failure, so that the record waits again.

        False, and nothing written, unless the record still has this failure and this image URL.
        """


class RunStore(Protocol):
    """The decisions that are made once for a generation, and its ledger."""

    def ensure_indexes(self) -> Sequence[str]:
        """Make the indexes that lists of ledgers need; returns their names. Safe to repeat."""

    def commit(self, generation: Generation, manifest_uri: str, at: datetime) -> str:
        """Set the generation's manifest unless it has one; returns the manifest that it has now."""

    def committed(self, generation: Generation) -> str | None:
        """The manifest of a generation, once it is committed."""

    def commits(self) -> Iterator[tuple[Generation, str]]:
        """All generations that are committed, with their manifests."""

    def release_hold(self, generation: Generation, who: str, why: str, at: datetime) -> None:
        """Allow a held generation to be published. Raises Permanent for an unknown one.

        The first release is kept: a second one changes nothing.
        """

    def hold_release(self, generation: Generation) -> HoldRelease | None:
        """Who released a generation from being held, why and when; None if nobody did."""

    def put_ledger(self, ledger: Ledger) -> None:
        """Store a generation's ledger; it replaces an earlier one of the same generation."""

    def ledgers(self, run_prefix: str = "") -> Iterator[Mapping[str, object]]:
        """The ledgers of the runs whose key begins with `run_prefix`, oldest first."""

    def ledger(self, generation: Generation) -> Mapping[str, object] | None:
        """The ledger of one generation; None if it has none."""

    def newest_ledgers(
        self,
        limit: int,
        before: LedgerCursor | None = None,
        dag: str | None = None,
        now: datetime | None = None,
    ) -> Sequence[Mapping[str, object]]:
        """A page of ledgers, newest first, without their `refers_to`, which may be long.

        Args:
            limit: the largest number of ledgers.
            before: continue after this ledger of the former page; None for the newest ones.
            dag: only those of a DAG's runs, by the first segment of the run key; `cli` for the command line.
            now: the time, where it is known: the embedded server then reads few other ledgers.
        """

    def ledgers_with_problems(self, limit: int) -> Sequence[Mapping[str, object]]:
        """The newest ledgers that are held or do not add up, without their `refers_to`; at most `limit`."""

    def generations(self, run_key: str) -> Sequence[int]:
        """The numbers of the generations of a run that have taken their snapshot, ascending."""


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version in the registry.

    Attributes:
        bundle: the released model.
        training: the URI of the training it came from.
        metrics: its measured figures.
        released_at: when it was registered (UTC).
        decision: the gate's last decision about it; None if there is none.
    """

    bundle: BundleRef
    training: str
    metrics: Mapping[str, float]
    released_at: datetime
    decision: Decision | None = None


class ModelRegistry(Protocol):
    """Released models, and which of them is in production."""

    def champion(self, name: str) -> BundleRef | None:
        """The bundle in production."""

    def reserve(self, name: str, training: str) -> int:
        """The version number of a training's model; a training always gets the same one."""

    def register(self, model: RegisteredModel) -> RegisteredModel:
        """Record a released model; returns what is registered for its version.

        If the version is registered already, only its decision is replaced, and only by another decision.
        """

    def promote(self, bundle: BundleRef, expected: BundleRef | None, promotion: Promotion) -> bool:
        """Make a bundle the champion if `expected` still is the champion; else return False.

        Promoting the present champion succeeds and changes nothing.
        """

    def rollback(self, name: str, promotion: Promotion, expected: BundleRef | None = None) -> BundleRef:
        """Restore the champion before the present one, and return it.

        The next rollback goes one champion further back.

        Repeating it with the same promotion changes nothing.

        Args:
            name: the model's name.
            promotion: who, when and why.
            expected: what the present champion must be; None for any.

        Raises:
            Permanent: there was no champion before the present one.
            Transient: somebody else changed the champion at the same moment.
        """

    def history(self, name: str) -> Sequence[ChampionChange]:
        """Every change of the champion, newest first."""

    def models(self, name: str) -> Sequence[RegisteredModel]:
        """All registered versions, oldest first."""


class DatasetRegistry(Protocol):
    """The data sets that were built; the next one can reuse the images of the newest."""

    def newest_dataset(self) -> str | None:
        """The URI of the newest data set's manifest."""

    def put_dataset(self, uri: str, at: datetime) -> None:
        """Add a data set that was built at a time (UTC)."""

    def datasets(self) -> Sequence[str]:
        """The URIs of the manifests of all data sets."""


class ImageFetcher(Protocol):
    """Fetches images by URL."""

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        """One outcome for each URL, in order; a failure is an outcome too. Reads `urls` lazily.

        Args:
            urls: the URLs; one that occurs twice is fetched twice.
            known: validators of earlier responses, by URL. These URLs are requested conditionally, and the
                outcome is `UnchangedImage` if the image has not changed. Looked up when a URL is read.
        """
