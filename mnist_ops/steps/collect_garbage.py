"""Collect garbage: delete what killed, repeated and failed tasks left in the object store.

What a ledger or a data set refers to stays for ever, so that every bundle and every prediction can be traced
back to its images.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.outcome_lines import log_lines
from mnist_ops.domain.ports import DatasetRegistry, GarbageStore, ObjectStore, RunStore
from mnist_ops.domain.retention import (
    KINDS,
    Disposition,
    GcResult,
    ObjectTotals,
    Owner,
    References,
    Retention,
    StoredObject,
    UnfinishedUpload,
    decide,
    folder_of,
)
from mnist_ops.steps.artifacts.datasets import open_rows, read_dataset
from mnist_ops.steps.artifacts.shard_kinds import SHARD_KINDS
from mnist_ops.steps.artifacts.shards import open_shard

_log = logging.getLogger(__name__)

_KEYS_PER_BATCH = 1_000
_DATASET = "/dataset-"


@dataclass(slots=True)
class ReferenceIndex:
    """Finds the objects that are in use: those that ledgers, commits and data sets refer to.

    Attributes:
        objects: the object store.
        runs: commits and ledgers.
        datasets: the registry of data sets.
    """

    objects: ObjectStore
    runs: RunStore
    datasets: DatasetRegistry
    _dataset_references: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)

    def references(self) -> References:
        """All that is in use now."""
        found = References()
        for ledger in self.runs.ledgers():
            self._add_ledger(found, ledger)
        for generation, manifest in self.runs.commits():
            if Owner(generation.run, generation.number) not in found.finished_at:
                found.unfinished_snapshots.update(map(folder_of, self._keys([manifest])))
        # A data set is in the bucket before it is in the registry.
        listed = [self.objects.uri(key) for key in self.objects.keys("datasets/") if _DATASET in key]
        for uri in dict.fromkeys([*listed, *self.datasets.datasets()]):
            snapshot, shards = self._dataset(uri)
            found.folders.update(map(folder_of, self._keys([snapshot])))
            found.keys.update(self._keys(shards))
        return found

    def _add_ledger(self, found: References, ledger: Mapping[str, object]) -> None:
        found.folders.update(map(folder_of, self._keys([str(ledger["manifest"])])))
        found.keys.update(self._keys(cast("Sequence[str]", ledger["refers_to"])))
        if not ledger["missing_parts"]:
            owner = Owner(str(ledger["run"]), int(str(ledger["generation"])))
            found.finished_at[owner] = cast("datetime", ledger["finished_at"])

    def _dataset(self, uri: str) -> tuple[str, frozenset[str]]:
        """A data set's snapshot, and the shards that hold its images; read once, since it never changes."""
        if uri not in self._dataset_references:
            dataset = read_dataset(self.objects, uri)
            shards: set[str] = set()
            with open_rows(self.objects, dataset) as file:
                for batch in file.iter_batches(columns=["image_uri"]):
                    shards.update(pc.unique(pc.drop_null(batch["image_uri"])).to_pylist())
            self._dataset_references[uri] = dataset.snapshot, frozenset(shards)
        return self._dataset_references[uri]

    def _keys(self, uris: Iterable[str]) -> Iterator[str]:
        """The keys of URIs; those outside of this store are left out, since nothing there is deleted."""
        root = self.objects.uri("")
        return (uri.removeprefix(root) for uri in uris if uri.startswith(root))

    def of_shard(self, key: str) -> list[str]:
        """The keys of the shards that a shard refers to; none where it cannot be read."""
        kind = SHARD_KINDS[key.partition("/")[0]]
        try:
            with open_shard(self.objects, self.objects.uri(key), kind) as shard:
                return list(self._keys(shard.header.refers_to))
        except (Damaged, ObjectMissing) as error:
            # No step can use such a shard either, so it protects nothing.
            problem = "a shard cannot be read, so the shards that it refers to are unknown:"
            log_lines(_log, [problem, str(error)], logging.WARNING)
            return []


def collect_garbage(
    index: ReferenceIndex, store: GarbageStore, *, rule: Retention, now: datetime, delete: bool
) -> GcResult:
    """Delete what nothing refers to and what is old enough; or only report it.

    Objects that are not named as a step of ours names them are never touched. References are read again
    before every batch that is deleted. A collection that is killed does no harm: the next one deletes the
    rest.

    Args:
        index: finds what is in use.
        store: lists and deletes.
        rule: how old garbage must be.
        now: the time (UTC).
        delete: whether to delete.

    Returns:
        What was found, and what was deleted.

    Raises:
        ObjectMissing, Damaged: a data set cannot be read, so what it refers to is unknown.
    """
    survey = _Survey(rule, now, index)
    for kind in KINDS:
        survey.add(kind, store.entries(f"{kind}/"))
    survey.keep_what_unfinished_runs_refer_to()
    uploads = [
        upload
        for kind in KINDS
        for upload in store.unfinished_uploads(f"{kind}/")
        if now - upload.started_at > rule.older_than
    ]
    found = GcResult(garbage=survey.totals(), kept=survey.kept, uploads=len(uploads))
    return _delete(found, survey, uploads, store) if delete else found


@dataclass(slots=True)
class _Survey:
    """The objects of the store, divided into garbage and what stays."""

    rule: Retention
    now: datetime
    index: ReferenceIndex
    kept: dict[Disposition, ObjectTotals] = field(default_factory=dict)
    garbage: dict[str, StoredObject] = field(default_factory=dict)
    _unfinished: list[StoredObject] = field(default_factory=list)
    _references: References = field(init=False)

    def __post_init__(self) -> None:
        self._references = self.index.references()

    def add(self, kind: str, entries: Iterable[StoredObject]) -> None:
        """Decide on every object of a kind."""
        for entry in entries:
            disposition = decide(entry, self._references, self.rule, self.now)
            if disposition is Disposition.GARBAGE:
                self.garbage[entry.key] = entry
                continue
            self._keep(entry, disposition)
            if kind in SHARD_KINDS and disposition in (Disposition.YOUNG, Disposition.UNFINISHED_RUN):
                self._unfinished.append(entry)

    def _keep(self, entry: StoredObject, disposition: Disposition) -> None:
        self.kept[disposition] = self.kept.get(disposition, ObjectTotals()).plus(entry)

    def keep_what_unfinished_runs_refer_to(self) -> None:
        """A run in progress may use images that a former run stored, and its own older shards."""
        if not self.garbage:
            return
        for entry in self._unfinished:
            for key in self.index.of_shard(entry.key):
                if (used := self.garbage.pop(key, None)) is not None:
                    self._keep(used, Disposition.UNFINISHED_RUN)

    def totals(self) -> dict[str, ObjectTotals]:
        """The garbage by kind."""
        totals: dict[str, ObjectTotals] = {}
        for key, entry in self.garbage.items():
            kind = key.partition("/")[0]
            totals[kind] = totals.get(kind, ObjectTotals()).plus(entry)
        return totals


def _delete(
    found: GcResult, survey: _Survey, uploads: Sequence[UnfinishedUpload], store: GarbageStore
) -> GcResult:
    keys, deleted, reused, failed = list(survey.garbage), 0, set[str](), dict[str, str]()
    for start in range(0, len(keys), _KEYS_PER_BATCH):
        batch = keys[start : start + _KEYS_PER_BATCH]
        references = survey.index.references()
        in_use = {key for key in batch if references.contains(key)}
        reused |= in_use
        chosen = [key for key in batch if key not in in_use]
        if chosen:
            not_deleted = store.delete(chosen)
            failed |= not_deleted
            deleted += len(chosen) - len(not_deleted)
        _log.info("%d of %d objects deleted", deleted, len(keys))
    for upload in uploads:
        store.abort(upload)
        deleted += 1
    return replace(found, deleted=deleted, reused=frozenset(reused), failed=failed)
