"""Collect garbage: sweep what killed, repeated and failed tasks left in the object store.

What a ledger or a data set refers to stays for ever, and with it whatever a bundle can be traced back to.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.keys import Generation, kind_in_name
from mnist_ops.domain.ports import DatasetRegistry, ObjectStore, ObjectSweeper, RunStore
from mnist_ops.domain.retention import (
    KINDS,
    Heap,
    Owner,
    References,
    Retention,
    StoredObject,
    Sweep,
    UnfinishedUpload,
    Verdict,
    folder_of,
    judge,
)
from mnist_ops.steps.artifacts.datasets import open_rows, read_dataset
from mnist_ops.steps.artifacts.shards import SCHEMAS, open_shard

_log = logging.getLogger(__name__)

_KEYS_PER_BATCH = 1_000
_DATASET = "/dataset-"


@dataclass(slots=True)
class Places:
    """Where references to objects stand.

    Attributes:
        objects: the object store.
        runs: commits and ledgers.
        datasets: knows the data sets.
    """

    objects: ObjectStore
    runs: RunStore
    datasets: DatasetRegistry
    _of_dataset: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)

    def references(self) -> References:
        """All that is in use now."""
        found = References()
        for ledger in self.runs.ledgers():
            self._add_ledger(found, ledger)
        for generation, manifest in self.runs.commits():
            if Owner(generation.run, generation.number) not in found.settled:
                found.undecided.update(map(folder_of, self._keys([manifest])))
        # A data set that is still to be registered lies in the bucket already.
        listed = [self.objects.uri(key) for key in self.objects.keys("datasets/") if _DATASET in key]
        for uri in dict.fromkeys([*listed, *self.datasets.datasets()]):
            snapshot, shards = self._dataset(uri)
            found.folders.update(map(folder_of, self._keys([snapshot])))
            found.keys.update(self._keys(shards))
        return found

    def _add_ledger(self, found: References, ledger: Mapping[str, object]) -> None:
        generation = Generation(str(ledger["run"]), int(str(ledger["generation"])))
        found.folders.update(map(folder_of, self._keys([str(ledger["manifest"])])))
        refers_to = ledger.get("refers_to")
        if not isinstance(refers_to, Sequence):
            # A ledger of an earlier version does not say: all of its generation is in use.
            found.folders.update(f"{kind}/{generation.id}/" for kind in KINDS)
            return
        found.keys.update(self._keys(map(str, refers_to)))
        finished_at = ledger["finished_at"]
        if not ledger["missing_parts"] and isinstance(finished_at, datetime):
            found.settled[Owner(generation.run, generation.number)] = finished_at

    def _dataset(self, uri: str) -> tuple[str, frozenset[str]]:
        """A data set's snapshot, and the shards that hold its images; read once, since it never changes."""
        if uri not in self._of_dataset:
            dataset = read_dataset(self.objects, uri)
            shards: set[str] = set()
            with open_rows(self.objects, dataset) as file:
                for batch in file.iter_batches(columns=["image_uri"]):
                    shards.update(pc.unique(pc.drop_null(batch["image_uri"])).to_pylist())
            self._of_dataset[uri] = dataset.snapshot, frozenset(shards)
        return self._of_dataset[uri]

    def _keys(self, uris: Iterable[str]) -> Iterator[str]:
        """The keys of URIs; what lies elsewhere is passed over, nothing there is ever swept."""
        root = self.objects.uri("")
        return (uri.removeprefix(root) for uri in uris if uri.startswith(root))

    def of_shard(self, key: str) -> list[str]:
        """The keys of the shards that a shard refers to."""
        uri = self.objects.uri(key)
        try:
            with open_shard(self.objects, uri, kind_in_name(uri)) as shard:
                return list(self._keys(shard.header.refers_to))
        except (Damaged, ObjectMissing) as error:
            # No step can use it either.
            _log.warning("it refers to nothing: %s", error)
            return []


def collect_garbage(
    places: Places,
    sweeper: ObjectSweeper,
    *,
    rule: Retention,
    now: datetime,
    delete: bool,
) -> Sweep:
    """Sweep what nothing refers to and what is old enough; or only say what that is.

    Objects that are not named as a step of ours names them are never touched. References are read again
    before every batch that is deleted. To be killed on the way does no harm: what is left goes next time.

    Args:
        places: where references stand.
        sweeper: lists and deletes.
        rule: how old debris must be.
        now: the time (UTC).
        delete: whether to delete.

    Returns:
        What was found, and what was deleted.

    Raises:
        ObjectMissing, Damaged: a data set cannot be read, so what it refers to is unknown.
    """
    survey = _Survey(rule, now, places)
    for kind in KINDS:
        survey.look_at(kind, sweeper.entries(f"{kind}/"))
    survey.keep_what_the_unfinished_refer_to()
    uploads = [
        upload
        for kind in KINDS
        for upload in sweeper.unfinished_uploads(f"{kind}/")
        if now - upload.started_at > rule.older_than
    ]
    found = Sweep(debris=survey.heaps(), kept=survey.kept, uploads=len(uploads))
    return _delete(found, survey, uploads, sweeper) if delete else found


@dataclass(slots=True)
class _Survey:
    """What lies in the store."""

    rule: Retention
    now: datetime
    places: Places
    kept: dict[Verdict, Heap] = field(default_factory=dict)
    debris: dict[str, StoredObject] = field(default_factory=dict)
    _unfinished: list[StoredObject] = field(default_factory=list)
    _references: References = field(init=False)

    def __post_init__(self) -> None:
        self._references = self.places.references()

    def look_at(self, kind: str, entries: Iterable[StoredObject]) -> None:
        """Judge every object of a kind."""
        for entry in entries:
            verdict = judge(entry, self._references, self.rule, self.now)
            if verdict is Verdict.DEBRIS:
                self.debris[entry.key] = entry
                continue
            self._keep(entry, verdict)
            if kind in SCHEMAS and verdict in (Verdict.YOUNG, Verdict.UNSETTLED):
                self._unfinished.append(entry)

    def _keep(self, entry: StoredObject, verdict: Verdict) -> None:
        self.kept[verdict] = self.kept.get(verdict, Heap()).with_object(entry)

    def keep_what_the_unfinished_refer_to(self) -> None:
        """A run that is under way may use images that a former run stored, and its own older shards."""
        if not self.debris:
            return
        for entry in self._unfinished:
            for key in self.places.of_shard(entry.key):
                if (used := self.debris.pop(key, None)) is not None:
                    self._keep(used, Verdict.UNSETTLED)

    def heaps(self) -> dict[str, Heap]:
        """The debris by kind."""
        heaps: dict[str, Heap] = {}
        for key, entry in self.debris.items():
            kind = key.partition("/")[0]
            heaps[kind] = heaps.get(kind, Heap()).with_object(entry)
        return heaps


def _delete(
    found: Sweep, survey: _Survey, uploads: Sequence[UnfinishedUpload], sweeper: ObjectSweeper
) -> Sweep:
    keys, deleted, spared, failed = list(survey.debris), 0, set[str](), dict[str, str]()
    for start in range(0, len(keys), _KEYS_PER_BATCH):
        batch = keys[start : start + _KEYS_PER_BATCH]
        references = survey.places.references()
        in_use = {key for key in batch if references.covers(key)}
        spared |= in_use
        chosen = [key for key in batch if key not in in_use]
        if chosen:
            refused = sweeper.delete(chosen)
            failed |= refused
            deleted += len(chosen) - len(refused)
        _log.info("%d of %d swept", deleted, len(keys))
    for upload in uploads:
        sweeper.abort(upload)
        deleted += 1
    return Sweep(found.debris, found.kept, found.uploads, deleted, frozenset(spared), failed)
