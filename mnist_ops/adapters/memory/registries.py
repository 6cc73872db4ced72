"""Commits, ledgers, models and data sets in memory, for tests and for trying a step out."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from mnist_ops.domain.champions import Action, ChampionChange, Promotion, restored_by_rollback
from mnist_ops.domain.cursors import LedgerCursor
from mnist_ops.domain.errors import Permanent, UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import HoldRelease, Ledger
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef

# Makes changes atomic, as a database would. Of the module, so that registries can be copied.
_LOCK = threading.Lock()


class InMemoryRuns:
    """Commits and ledgers in dictionaries. Implements `RunStore`."""

    def __init__(self) -> None:
        self._commits: dict[str, str] = {}
        self._releases: dict[str, HoldRelease] = {}
        self._ledgers: dict[str, Ledger] = {}

    def ensure_indexes(self) -> Sequence[str]:
        return []

    def commit(self, generation: Generation, manifest_uri: str, at: datetime) -> str:  # noqa: ARG002 (the port's)
        return self._commits.setdefault(generation.id, manifest_uri)

    def committed(self, generation: Generation) -> str | None:
        return self._commits.get(generation.id)

    def commits(self) -> Iterator[tuple[Generation, str]]:
        for key, manifest in list(self._commits.items()):
            run, _, number = key.rpartition("/")
            yield Generation(run, int(number)), manifest

    def release_hold(self, generation: Generation, who: str, why: str, at: datetime) -> None:
        if generation.id not in self._commits:
            raise UsageError(f"{generation.id}: no such generation has taken a snapshot")
        self._releases.setdefault(generation.id, HoldRelease(who, why, at))

    def hold_release(self, generation: Generation) -> HoldRelease | None:
        return self._releases.get(generation.id)

    def put_ledger(self, ledger: Ledger) -> None:
        self._ledgers[ledger.generation.id] = ledger

    def ledgers(self, run_prefix: str = "") -> Iterator[Mapping[str, object]]:
        chosen = [ledger for key, ledger in self._ledgers.items() if key.startswith(run_prefix)]
        for ledger in sorted(chosen, key=lambda ledger: ledger.finished_at):
            yield _document(ledger)

    def ledger(self, generation: Generation) -> Mapping[str, object] | None:
        ledger = self._ledgers.get(generation.id)
        return _document(ledger) if ledger else None

    def newest_ledgers(
        self,
        limit: int,
        before: LedgerCursor | None = None,
        dag: str | None = None,
        now: datetime | None = None,  # noqa: ARG002 (the port's)
    ) -> Sequence[Mapping[str, object]]:
        def chosen(ledger: Ledger) -> bool:
            return dag in (None, ledger.generation.dag) and (
                before is None or _place(ledger) < (before.finished_at, before.id)
            )

        return self._newest(chosen, limit)

    def ledgers_with_problems(self, limit: int) -> Sequence[Mapping[str, object]]:
        return self._newest(lambda ledger: bool(ledger.held_because or ledger.imbalance()), limit)

    def _newest(self, chosen: Callable[[Ledger], bool], limit: int) -> list[Mapping[str, object]]:
        ledgers = sorted(filter(chosen, self._ledgers.values()), key=_place, reverse=True)[:limit]
        documents = map(_document, ledgers)
        return [{name: ledger[name] for name in ledger if name != "refers_to"} for ledger in documents]

    def generations(self, run_key: str) -> Sequence[int]:
        return sorted(generation.number for generation, _ in self.commits() if generation.run == run_key)


def _place(ledger: Ledger) -> tuple[datetime, str]:
    return ledger.finished_at, ledger.generation.id


def _document(ledger: Ledger) -> dict[str, object]:
    return {"_id": ledger.generation.id, **ledger.document()}


class InMemoryModels:
    """Released models in dictionaries. Implements `ModelRegistry`."""

    def __init__(self) -> None:
        self._reserved: dict[tuple[str, str], int] = {}
        self._models: dict[tuple[str, int], RegisteredModel] = {}
        self._history: dict[str, list[ChampionChange]] = {}

    def champion(self, name: str) -> BundleRef | None:
        newest = self._history.get(name, [])[:1]
        return newest[0].bundle if newest else None

    def reserve(self, name: str, training: str) -> int:
        with _LOCK:
            versions = [version for (other, _), version in self._reserved.items() if other == name]
            return self._reserved.setdefault((name, training), max(versions, default=0) + 1)

    def register(self, model: RegisteredModel) -> RegisteredModel:
        if self._reserved.get((model.bundle.name, model.training)) != model.bundle.version:
            raise Permanent(
                f"{model.bundle.name}/{model.bundle.version:06d}: reserve a version before registering it"
            )
        key = model.bundle.name, model.bundle.version
        with _LOCK:
            registered = self._models.setdefault(key, model)
            decision = model.decision or registered.decision
            self._models[key] = dataclasses.replace(registered, decision=decision)
            return self._models[key]

    def promote(self, bundle: BundleRef, expected: BundleRef | None, promotion: Promotion) -> bool:
        with _LOCK:
            champion = self.champion(bundle.name)
            if champion == bundle:
                return True
            if champion != expected:
                return False
            change = ChampionChange(Action.PROMOTION, bundle, champion, promotion)
            self._history.setdefault(bundle.name, []).insert(0, change)
            return True

    def rollback(self, name: str, promotion: Promotion, expected: BundleRef | None = None) -> BundleRef:
        with _LOCK:
            history = self._history.setdefault(name, [])
            if history and (history[0].action, history[0].promotion) == (Action.ROLLBACK, promotion):
                return history[0].bundle
            former = restored_by_rollback(name, history, expected)
            history.insert(0, ChampionChange(Action.ROLLBACK, former, history[0].bundle, promotion))
            return former

    def history(self, name: str) -> Sequence[ChampionChange]:
        return list(self._history.get(name, []))

    def models(self, name: str) -> Sequence[RegisteredModel]:
        return [self._models[key] for key in sorted(self._models) if key[0] == name]


class InMemoryDatasets:
    """Built data sets in a dictionary. Implements `DatasetRegistry`."""

    def __init__(self) -> None:
        self._datasets: dict[str, datetime] = {}

    def newest_dataset(self) -> str | None:
        return max(self._datasets, key=lambda uri: self._datasets[uri], default=None)

    def put_dataset(self, uri: str, at: datetime) -> None:
        self._datasets[uri] = at

    def datasets(self) -> Sequence[str]:
        return list(self._datasets)
