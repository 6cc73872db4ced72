"""Doubles of every port that live in memory: for tests, and for trying a step out.

They keep what they are given as the real ones do (records as BSON, objects as bytes) and pass
the same contract tests.
"""

import copy
import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import bson

from mnist_ops.adapters.mongo.bson_documents import CODEC, Document, decode, head_of, id_json
from mnist_ops.domain.champions import Action, ChampionChange, Promotion, restored_by_rollback
from mnist_ops.domain.errors import ObjectMissing, Permanent
from mnist_ops.domain.images import FetchedImage, FetchFailure, FetchOutcome, UnchangedImage, Validators
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import (
    HISTORY_LENGTH,
    BundleRef,
    Change,
    FieldNames,
    Prediction,
    PredictionFailure,
    RecordHead,
    WriteReport,
)
from mnist_ops.domain.retention import StoredObject, UnfinishedUpload
from mnist_ops.domain.selection import Selection, takes

# What a database decides atomically is decided under this; of the module, so that doubles can be copied.
_DECIDING = threading.Lock()


class InMemoryUpload:
    """An object in the making, which is put when it is finished."""

    def __init__(self, put: Callable[[bytes], str]) -> None:
        self._put = put
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._data += data

    def finish(self) -> str:
        """Put the object and return its URI."""
        return self._put(bytes(self._data))

    def abort(self) -> None:
        """Forget it."""


class InMemoryObjects:
    """Objects in a dictionary.

    Attributes:
        objects: their bytes by key.
        modified: when each was written (UTC), by key.
        now: the clock that says so.
        requests: how many requests were made, by S3 operation.
        moved: how many bytes were `sent` and `received`.
        uploads: those that were begun and not completed: none but what a test puts there.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.requests: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.uploads: list[UnfinishedUpload] = []

    def uri(self, key: str) -> str:
        """Where a key's object lies, written yet or not."""
        return f"memory://objects/{key}"

    def put_bytes(self, key: str, data: bytes) -> str:
        """Write a small object and return its URI."""
        self.requests["PutObject"] += 1
        self.moved["sent"] += len(data)
        self.objects[key] = data
        self.modified[key] = self.now()
        return self.uri(key)

    def put_file(self, key: str, path: Path) -> str:
        """Write a file and return its URI."""
        return self.put_bytes(key, path.read_bytes())

    def upload(self, key: str) -> InMemoryUpload:
        """Begin an object whose bytes are still to come."""
        return InMemoryUpload(lambda data: self.put_bytes(key, data))

    def upload_requests(self, size: int) -> Mapping[str, int]:  # noqa: ARG002 (the port's)
        """One, however large."""
        return {"PutObject": 1}

    def get_bytes(self, uri: str) -> bytes:
        """Read an object."""
        self.requests["GetObject"] += 1
        try:
            data = self.objects[uri.removeprefix(self.uri(""))]
        except KeyError:
            raise ObjectMissing(f"{uri}: no such object") from None
        self.moved["received"] += len(data)
        return data

    def get_file(self, uri: str, path: Path) -> None:
        """Read an object into a file."""
        path.write_bytes(self.get_bytes(uri))

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix."""
        self.requests["ListObjectsV2"] += 1
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys begin with a prefix."""
        for key in list(self.keys(prefix)):
            yield StoredObject(key, len(self.objects[key]), self.modified[key])

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Delete objects."""
        self.requests["DeleteObjects"] += 1
        for key in keys:
            self.objects.pop(key, None)
        return {}

    def unfinished_uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """The uploads that a test says were begun."""
        yield from [upload for upload in self.uploads if upload.key.startswith(prefix)]

    def abort(self, upload: UnfinishedUpload) -> None:
        """Give an upload up."""
        self.uploads.remove(upload)


class InMemoryRecords:
    """Records in a dictionary, in the order of their insertion.

    Attributes:
        before_write: called before every batch of changes, for tests of what happens meanwhile.
    """

    def __init__(self, fields: FieldNames | None = None) -> None:
        self._fields = fields or FieldNames()
        self._documents: dict[str, Document] = {}
        self._indexed = False
        self.before_write: Callable[[], None] = lambda: None

    def insert(self, *documents: Mapping[str, object]) -> None:
        """Add records as a client would send them."""
        for document in documents:
            stored = decode(bson.encode(document, codec_options=CODEC))
            self._documents[id_json(stored["_id"])] = stored

    def document(self, record_id: object) -> Document:
        """A copy of one record. Raises KeyError."""
        return copy.deepcopy(self._documents[id_json(record_id)])

    def documents(self) -> list[Document]:
        """Copies of all records."""
        return copy.deepcopy(list(self._documents.values()))

    def delete(self, record_id: object) -> None:
        """Remove one record. Raises KeyError."""
        del self._documents[id_json(record_id)]

    def ensure_indexes(self) -> Sequence[str]:
        """Remember that indexes were asked for."""
        self._indexed = True
        return ["mnist_ops_selection"]

    def missing_indexes(self) -> Sequence[str]:
        """The index, until it was asked for."""
        return [] if self._indexed else ["mnist_ops_selection"]

    def count(self, selection: Selection) -> int:
        """How many records a selection takes now."""
        return len(self._selected(selection))

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        """The selected records as stored, in batches of concatenated BSON documents."""
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
        """Read the fields of one BSON document that the pipeline looks at."""
        return head_of(decode(document), self._fields)

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write changes, each only if its record is still as snapshotted."""
        self.before_write()
        matched, refused = 0, {}
        with _DECIDING:
            for place, change in enumerate(changes):
                if not self._matches(change):
                    continue
                if self._can_take(change):
                    self._apply(change)
                    matched += 1
                else:
                    refused[place] = "prediction_history is no array"
        return WriteReport(matched, refused)

    def _matches(self, change: Change) -> bool:
        document = self._documents.get(change.head.id_json)
        return document is not None and self._unchanged(change, head_of(document, self._fields))

    def _can_take(self, change: Change) -> bool:
        """MongoDB does not push onto what is no array."""
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
        """The current heads of records by `id_json`; records that are gone are left out."""
        return {key: head_of(self._documents[key], self._fields) for key in ids if key in self._documents}


class InMemoryRuns:
    """Commits and ledgers in dictionaries."""

    def __init__(self) -> None:
        self._commits: dict[str, str] = {}
        self._releases: dict[str, str] = {}
        self._ledgers: dict[str, Ledger] = {}

    def commit(self, generation: Generation, manifest_uri: str, at: datetime) -> str:  # noqa: ARG002 (the port's)
        """Set the generation's manifest if it has none yet; returns the one that stands."""
        return self._commits.setdefault(generation.id, manifest_uri)

    def committed(self, generation: Generation) -> str | None:
        """The manifest of a generation, once it is committed."""
        return self._commits.get(generation.id)

    def commits(self) -> Iterator[tuple[Generation, str]]:
        """All generations that are committed, with their manifests."""
        for key, manifest in list(self._commits.items()):
            run, _, number = key.rpartition("/")
            yield Generation(run, int(number)), manifest

    def release_hold(self, generation: Generation, who: str, why: str, at: datetime) -> None:  # noqa: ARG002
        """Allow a held generation to be published."""
        if generation.id not in self._commits:
            raise Permanent(f"{generation.id}: no such generation has taken a snapshot")
        self._releases[generation.id] = who

    def hold_released_by(self, generation: Generation) -> str | None:
        """Who allowed it, if anybody did."""
        return self._releases.get(generation.id)

    def put_ledger(self, ledger: Ledger) -> None:
        """Keep a generation's ledger, replacing an earlier one of the same generation."""
        self._ledgers[ledger.generation.id] = ledger

    def ledgers(self, run_prefix: str = "") -> Iterator[Mapping[str, object]]:
        """The ledgers of the runs whose key begins with `run_prefix`, oldest first."""
        chosen = [ledger for key, ledger in self._ledgers.items() if key.startswith(run_prefix)]
        for ledger in sorted(chosen, key=lambda ledger: ledger.finished_at):
            yield {"_id": ledger.generation.id, **ledger.document()}


class InMemoryModels:
    """Released models in dictionaries."""

    def __init__(self) -> None:
        self._reserved: dict[tuple[str, str], int] = {}
        self._models: dict[tuple[str, int], RegisteredModel] = {}
        self._history: dict[str, list[ChampionChange]] = {}

    def champion(self, name: str) -> BundleRef | None:
        """The bundle in production."""
        newest = self._history.get(name, [])[:1]
        return newest[0].bundle if newest else None

    def reserve(self, name: str, training: str) -> int:
        """The version number of a training's model: the same one whenever it is asked again."""
        with _DECIDING:
            versions = [version for (other, _), version in self._reserved.items() if other == name]
            return self._reserved.setdefault((name, training), max(versions, default=0) + 1)

    def register(self, model: RegisteredModel) -> RegisteredModel:
        """Record a released model, once; returns the one that stands for its version."""
        if self._reserved.get((model.bundle.name, model.training)) != model.bundle.version:
            raise Permanent(
                f"{model.bundle.name}/{model.bundle.version:06d}: reserve a version before registering it"
            )
        key = model.bundle.name, model.bundle.version
        with _DECIDING:
            standing = self._models.setdefault(key, model)
            decision = model.decision or standing.decision
            self._models[key] = dataclasses.replace(standing, decision=decision)
            return self._models[key]

    def promote(self, bundle: BundleRef, expected: BundleRef | None, promotion: Promotion) -> bool:
        """Make a bundle the champion if `expected` still is; False if it is not."""
        with _DECIDING:
            champion = self.champion(bundle.name)
            if champion == bundle:
                return True
            if champion != expected:
                return False
            change = ChampionChange(Action.PROMOTION, bundle, champion, promotion)
            self._history.setdefault(bundle.name, []).insert(0, change)
            return True

    def rollback(self, name: str, promotion: Promotion) -> BundleRef:
        """Restore the champion before the present one and return it."""
        with _DECIDING:
            history = self._history.setdefault(name, [])
            if history and (history[0].action, history[0].promotion) == (Action.ROLLBACK, promotion):
                return history[0].bundle
            former = restored_by_rollback(name, history)
            history.insert(0, ChampionChange(Action.ROLLBACK, former, history[0].bundle, promotion))
            return former

    def history(self, name: str) -> Sequence[ChampionChange]:
        """Every change of the champion, newest first."""
        return list(self._history.get(name, []))

    def models(self, name: str) -> Sequence[RegisteredModel]:
        """All registered versions, oldest first."""
        return [self._models[key] for key in sorted(self._models) if key[0] == name]


class InMemoryDatasets:
    """Built data sets in a dictionary."""

    def __init__(self) -> None:
        self._datasets: dict[str, datetime] = {}

    def newest_dataset(self) -> str | None:
        """The URI of the newest data set's manifest."""
        return max(self._datasets, key=lambda uri: self._datasets[uri], default=None)

    def put_dataset(self, uri: str, at: datetime) -> None:
        """Record a built data set."""
        self._datasets[uri] = at

    def datasets(self) -> Sequence[str]:
        """The URIs of the manifests of all of them."""
        return list(self._datasets)


class InMemoryImages:
    """Images by URL; what is not there is not found.

    Args:
        images: payloads, or failures to give instead, by URL.

    Attributes:
        images: as given; may be changed.
        validators: what the images come with, by URL; none unless it is filled.
        fetched: every URL that was asked for, in order.
    """

    def __init__(self, images: Mapping[str, bytes | FetchFailure] | None = None) -> None:
        self.images = dict(images or {})
        self.validators: dict[str, Validators] = {}
        self.fetched: list[str] = []

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        """One value a URL, in order."""
        for url in urls:
            self.fetched.append(url)
            found = self.images.get(url)
            validators = self.validators.get(url)
            if found is None:
                yield FetchFailure(url, Reason.NOT_FOUND, "the server has no such image", http_status=404)
            elif isinstance(found, FetchFailure):
                yield found
            elif validators is not None and validators == (known or {}).get(url):
                yield UnchangedImage(url, http_status=304)
            else:
                yield FetchedImage(url, found, http_status=200, validators=validators)
