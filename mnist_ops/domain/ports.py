"""What the steps ask of the world; adapters answer, steps know nothing else of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mnist_ops.domain.champions import ChampionChange, Promotion
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.images import FetchOutcome, Validators
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.domain.records import BundleRef, Change, RecordHead, WriteReport
from mnist_ops.domain.retention import StoredObject, UnfinishedUpload
from mnist_ops.domain.selection import Selection


class Upload(Protocol):
    """An object in the making: nothing of it is there before it is finished. Of one thread at a time."""

    def write(self, data: bytes) -> None:
        """Add bytes; they go up as they come, a bounded number of them kept."""

    def finish(self) -> str:
        """Put the object there, whole, and return its URI."""

    def abort(self) -> None:
        """Give it up and leave nothing behind. Never raises; after `finish` succeeded it does nothing."""


class ObjectStore(Protocol):
    """Immutable objects by key. Keys are relative; URIs are absolute and stay valid for ever."""

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests were made, by kind; counts up."""

    @property
    def moved(self) -> Mapping[str, int]:
        """How many bytes of objects were `sent` and `received`; counts up."""

    def upload_requests(self, size: int) -> Mapping[str, int]:
        """What `put_file`, and `put_bytes` of little, ask for so many bytes, by kind, at the first try."""

    def uri(self, key: str) -> str:
        """Where a key's object lies, written yet or not."""

    def put_bytes(self, key: str, data: bytes) -> str:
        """Write a small object and return its URI."""

    def put_file(self, key: str, path: Path) -> str:
        """Write a file of any size, in pieces, and return its URI."""

    def upload(self, key: str) -> Upload:
        """Begin an object whose bytes are still to come."""

    def get_bytes(self, uri: str) -> bytes:
        """Read a small object. Raises ObjectMissing."""

    def get_file(self, uri: str, path: Path) -> None:
        """Read an object of any size into a file. Raises ObjectMissing."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix; stores differ in their order."""


class GarbageStore(Protocol):
    """Lists the objects of the store with their ages, and deletes them.

    A port of its own: only garbage collection may delete.
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

    def count(self, selection: Selection) -> int:
        """How many records a selection takes now, the limit included."""

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        """The selected records as they are stored: concatenated BSON documents."""

    def head(self, document: bytes) -> RecordHead:
        """Read the fields of one BSON document that the pipeline looks at."""

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write changes, each only if its record is still as snapshotted; never inserts.

        Raises:
            OutcomeUnknown: the reply was lost: read the records back.
        """

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        """The current heads of records, given and keyed by `id_json`; the gone are left out."""


class RunStore(Protocol):
    """What is decided once for a generation, and its ledger."""

    def commit(self, generation: Generation, manifest_uri: str, at: datetime) -> str:
        """Set the generation's manifest if it has none yet; returns the one that stands."""

    def committed(self, generation: Generation) -> str | None:
        """The manifest of a generation, once it is committed."""

    def commits(self) -> Iterator[tuple[Generation, str]]:
        """All generations that are committed, with their manifests."""

    def release_hold(self, generation: Generation, who: str, why: str, at: datetime) -> None:
        """Allow a held generation to be published. Raises Permanent for an unknown one."""

    def hold_released_by(self, generation: Generation) -> str | None:
        """Who allowed it, if anybody did."""

    def put_ledger(self, ledger: Ledger) -> None:
        """Keep a generation's ledger, replacing an earlier one of the same generation."""

    def ledgers(self, run_prefix: str = "") -> Iterator[Mapping[str, object]]:
        """The ledgers of the runs whose key begins with `run_prefix`, oldest first."""


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version in the registry.

    Attributes:
        bundle: the released model.
        training: the URI of the training it came from.
        metrics: its measured figures.
        released_at: when it was registered (UTC).
        decision: what the gate said of it last; None where it was never asked.
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
        """The version number of a training's model: the same one whenever it is asked again."""

    def register(self, model: RegisteredModel) -> RegisteredModel:
        """Record a released model, once; returns the one that stands for its version.

        Its decision alone is replaced by that of a later registration which has one.
        """

    def promote(self, bundle: BundleRef, expected: BundleRef | None, promotion: Promotion) -> bool:
        """Make a bundle the champion if `expected` still is; False if it is not.

        Promoting the bundle that already is champion succeeds and changes nothing.
        """

    def rollback(self, name: str, promotion: Promotion) -> BundleRef:
        """Restore the champion before the present one and return it; the next one goes further back.

        Repeating it with the same promotion changes nothing.

        Raises:
            Permanent: there was none before the present one.
            Transient: somebody else changed the champion at the same moment.
        """

    def history(self, name: str) -> Sequence[ChampionChange]:
        """Every change of the champion, newest first."""

    def models(self, name: str) -> Sequence[RegisteredModel]:
        """All registered versions, oldest first."""


class DatasetRegistry(Protocol):
    """Which data set was built last, so that the next one can reuse its images."""

    def newest_dataset(self) -> str | None:
        """The URI of the newest data set's manifest."""

    def put_dataset(self, uri: str, at: datetime) -> None:
        """Record a built data set."""

    def datasets(self) -> Sequence[str]:
        """The URIs of the manifests of all of them."""


class ImageFetcher(Protocol):
    """Gets images by URL."""

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        """One value a URL, in order; a bad URL is a value too. Reads `urls` lazily.

        Args:
            urls: what to fetch; a URL that comes twice is fetched twice.
            known: validators of earlier answers, by URL: these are asked only for what has changed since,
                and answered with `UnchangedImage` where nothing has. Looked at when a URL is read.
        """
