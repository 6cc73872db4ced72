"""The registries in MongoDB: commits of runs, ledgers, released models and their champion, data sets.

Each commit or promotion is one insert under a unique `_id` or one atomic update. S3 could not decide them:
its stores differ in what they offer for compare-and-swap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from mnist_ops.adapters.mongo.bson_documents import Document
from mnist_ops.adapters.mongo.collections import majority_collection, upserted
from mnist_ops.adapters.mongo.errors import translated
from mnist_ops.adapters.mongo.indexes import Index
from mnist_ops.adapters.mongo.ranges import BEFORE_ANY, Ranges, earlier
from mnist_ops.domain.champions import Action, ChampionChange, Promotion, restored_by_rollback
from mnist_ops.domain.cursors import LedgerCursor
from mnist_ops.domain.errors import Permanent, Transient, UsageError
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import HoldRelease, Ledger
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef

RUNS = "mnist_ops_runs"
LEDGERS = "mnist_ops_ledgers"
MODELS = "mnist_ops_models"
DATASETS = "mnist_ops_datasets"

_RESERVATION_TRIES = 20
_NEWEST = (("finished_at", -1), ("_id", -1))
_TEXT: Mapping[str, object] = {"$gt": ""}
# What a ledger says that a person has to look at, as a text; null otherwise.
_PROBLEMS = ("held_because", "imbalance")
# Lists of ledgers are read newest first, all of them or those of one DAG; and those with a problem.
_LEDGER_INDEXES: Mapping[str, Index] = {
    "mnist_ops_newest": Index(_NEWEST),
    "mnist_ops_newest_of_dag": Index((("dag", 1), *_NEWEST)),
    **{f"mnist_ops_{problem}": Index(((problem, 1),), {problem: _TEXT}) for problem in _PROBLEMS},
}
_SECONDS = Ranges(first=6 * 3_600.0, growth=8.0)


class MongoRuns:
    """Commits and ledgers of runs. Implements `RunStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._runs = majority_collection(database, RUNS)
        self._ledgers = majority_collection(database, LEDGERS)

    def ensure_indexes(self) -> Sequence[str]:
        models = [index.model(name) for name, index in _LEDGER_INDEXES.items()]
        translated(self._ledgers.create_indexes, models)
        return list(_LEDGER_INDEXES)

    def commit(self, generation: Generation, manifest_uri: str, at: datetime) -> str:
        commit: Document = {
            "_id": generation.id,
            "run": generation.run,
            "generation": generation.number,
            "manifest": manifest_uri,
            "at": at,
        }
        try:
            translated(self._runs.insert_one, commit)
        except DuplicateKeyError:
            committed = self.committed(generation)
            if committed is None:
                raise Transient(f"{generation.id}: its commit was deleted at this moment") from None
            return committed
        return manifest_uri

    def committed(self, generation: Generation) -> str | None:
        commit = translated(self._runs.find_one, {"_id": generation.id})
        return str(commit["manifest"]) if commit else None

    def commits(self) -> Iterator[tuple[Generation, str]]:
        for commit in translated(lambda: list(self._runs.find())):
            generation = Generation(str(commit["run"]), cast("int", commit["generation"]))
            yield generation, str(commit["manifest"])

    def release_hold(self, generation: Generation, who: str, why: str, at: datetime) -> None:
        release = {"by": who, "why": why, "at": at}
        held = {"_id": generation.id, "hold_released": None}
        result = translated(self._runs.update_one, held, {"$set": {"hold_released": release}})
        if result.matched_count == 0 and self.committed(generation) is None:
            raise UsageError(f"{generation.id}: no such generation has taken a snapshot")

    def hold_release(self, generation: Generation) -> HoldRelease | None:
        commit = translated(self._runs.find_one, {"_id": generation.id})
        release = commit.get("hold_released") if commit else None
        if not isinstance(release, Mapping):
            return None
        return HoldRelease(str(release["by"]), str(release["why"]), cast("datetime", release["at"]))

    def put_ledger(self, ledger: Ledger) -> None:
        key = ledger.generation.id
        upserted(self._ledgers.replace_one, {"_id": key}, {"_id": key, **ledger.document()})

    def ledgers(self, run_prefix: str = "") -> Iterator[Mapping[str, object]]:
        query = {"_id": {"$gte": run_prefix, "$lt": run_prefix + "\U0010ffff"}}
        yield from translated(lambda: list(self._ledgers.find(query).sort("finished_at", 1)))

    def ledger(self, generation: Generation) -> Mapping[str, object] | None:
        return translated(self._ledgers.find_one, {"_id": generation.id})

    def newest_ledgers(
        self,
        limit: int,
        before: LedgerCursor | None = None,
        dag: str | None = None,
        now: datetime | None = None,
    ) -> Sequence[Mapping[str, object]]:
        of_dag: Document = {} if dag is None else {"dag": dag}
        newest: list[Document] = []

        def add(older: Document) -> int:
            page = self._newest({**of_dag, **older}, limit - len(newest))
            newest.extend(page)
            return len(page)

        start = before.finished_at if before else now
        if start is None:
            add({})
            return newest

        def read(newer_s: float, older_s: float) -> int:
            # The clock of who wrote a ledger may be ahead of `now`.
            until = {"$lt": earlier(start, newer_s)} if before or newer_s else {}
            return add({"finished_at": {"$gte": earlier(start, older_s), **until}})

        if before:
            add({"finished_at": start, "_id": {"$lt": before.id}})
        _SECONDS.read(read, limit - len(newest), (start - BEFORE_ANY).total_seconds())
        return newest

    def ledgers_with_problems(self, limit: int) -> Sequence[Mapping[str, object]]:
        found = [ledger for problem in _PROBLEMS for ledger in self._newest({problem: _TEXT}, limit)]
        by_place = {(cast("datetime", ledger["finished_at"]), str(ledger["_id"])): ledger for ledger in found}
        return [by_place[place] for place in sorted(by_place, reverse=True)[:limit]]

    def _newest(self, query: Document, limit: int) -> list[Document]:
        found = self._ledgers.find(query, {"refers_to": 0}).sort(_NEWEST).limit(limit)
        return translated(list, found)

    def generations(self, run_key: str) -> Sequence[int]:
        if "/" not in run_key:
            return []  # a DAG: the range would be all of its runs
        # A number follows the last slash, and "0" follows "/".
        query = {"_id": {"$gte": f"{run_key}/", "$lt": f"{run_key}0"}, "run": run_key}
        found = translated(lambda: list(self._runs.find(query, {"generation": 1})))
        return sorted(cast("int", commit["generation"]) for commit in found)


class MongoModels:
    """Released models, a document a version, and the champion's alias. Implements `ModelRegistry`.

    `reserve` creates a version's document, `register` fills it once. The alias is one document a name; it
    also holds the whole history, newest first, so that both change in one atomic update.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._models = majority_collection(database, MODELS)

    def champion(self, name: str) -> BundleRef | None:
        alias = translated(self._models.find_one, {"_id": f"{name}/champion"})
        return _referred(name, alias) if alias else None

    def reserve(self, name: str, training: str) -> int:
        for _ in range(_RESERVATION_TRIES):
            # The order matters: if this training gets a number between the two reads, the insert collides.
            version = self._last_version(name) + 1
            reserved = translated(self._models.find_one, {"name": name, "training": training})
            if reserved:
                return cast("int", reserved["version"])
            reservation: Document = {
                "_id": f"{name}/{version:06d}",
                "name": name,
                "version": version,
                "training": training,
            }
            try:
                translated(self._models.insert_one, reservation)
            except DuplicateKeyError:
                continue  # another training, or another attempt of this one, has taken the number
            return version
        raise Transient(f"{name}: no free version number after {_RESERVATION_TRIES} tries")

    def _last_version(self, name: str) -> int:
        newest = translated(
            self._models.find_one,
            {"name": name, "version": {"$exists": True}, "alias": None},
            sort=[("version", -1)],
        )
        return cast("int", newest["version"]) if newest else 0

    def register(self, model: RegisteredModel) -> RegisteredModel:
        bundle = model.bundle
        key = f"{bundle.name}/{bundle.version:06d}"
        values = {
            "uri": bundle.uri,
            "digest": bundle.digest,
            "metrics": dict(model.metrics),
            "released_at": model.released_at,
        }
        reserved = {"_id": key, "training": model.training}
        translated(self._models.update_one, {**reserved, "uri": None}, {"$set": values})
        if model.decision is not None:
            decision = _decision_document(model.decision)
            translated(self._models.update_one, reserved, {"$set": {"decision": decision}})
        registered = translated(self._models.find_one, reserved)
        if registered is None:
            raise Permanent(f"{key}: not reserved for {model.training}")
        return _model(registered)

    def promote(self, bundle: BundleRef, expected: BundleRef | None, promotion: Promotion) -> bool:
        if bundle == expected:
            return self.champion(bundle.name) == bundle
        change = ChampionChange(Action.PROMOTION, bundle, expected, promotion)
        return self._move_alias(change, {}) or self.champion(bundle.name) == bundle

    def rollback(self, name: str, promotion: Promotion, expected: BundleRef | None = None) -> BundleRef:
        history = self.history(name)
        if history and (history[0].action, history[0].promotion) == (Action.ROLLBACK, promotion):
            return history[0].bundle
        former = restored_by_rollback(name, history, expected)
        change = ChampionChange(Action.ROLLBACK, former, history[0].bundle, promotion)
        # Only if the history is still the one that was read: two rollbacks at once must count as one.
        if not self._move_alias(change, {"history": {"$size": len(history)}}):
            raise Transient(f"{name}: the champion was changed at the same moment; look again")
        return former

    def history(self, name: str) -> Sequence[ChampionChange]:
        alias = translated(self._models.find_one, {"_id": f"{name}/champion"})
        changes = cast("Sequence[Document]", alias["history"]) if alias else []
        return [_change(name, document) for document in changes]

    def _move_alias(self, change: ChampionChange, condition: Document) -> bool:
        """Move the alias and record the change in one update; False if the champion is another one by now."""
        bundle, former = change.bundle, change.former
        key = f"{bundle.name}/champion"
        alias: Document = {
            "alias": "champion",
            "name": bundle.name,
            **_reference(bundle),
            "promoted_at": change.promotion.at,
        }
        entry = _change_document(change)
        if former is None:
            try:
                translated(self._models.insert_one, {"_id": key, **alias, "history": [entry]})
            except DuplicateKeyError:
                return False
            return True
        update = {"$set": alias, "$push": {"history": {"$each": [entry], "$position": 0}}}
        expected = {"_id": key, "digest": former.digest, "version": former.version, **condition}
        return translated(self._models.find_one_and_update, expected, update) is not None

    def models(self, name: str) -> Sequence[RegisteredModel]:
        query = {"name": name, "uri": {"$ne": None}, "alias": None}
        found = translated(lambda: list(self._models.find(query).sort("version", 1)))
        return [_model(document) for document in found]


class MongoDatasets:
    """Built data sets. Implements `DatasetRegistry`."""

    def __init__(self, database: Database[Document]) -> None:
        self._datasets = majority_collection(database, DATASETS)

    def newest_dataset(self) -> str | None:
        newest = translated(self._datasets.find_one, {}, sort=[("at", -1)])
        return str(newest["_id"]) if newest else None

    def put_dataset(self, uri: str, at: datetime) -> None:
        upserted(self._datasets.update_one, {"_id": uri}, {"$set": {"at": at}})

    def datasets(self) -> Sequence[str]:
        return [str(found["_id"]) for found in translated(lambda: list(self._datasets.find()))]


def _referred(name: str, document: Document) -> BundleRef:
    return BundleRef(
        name=name,
        version=cast("int", document["version"]),
        uri=str(document["uri"]),
        digest=str(document["digest"]),
    )


def _reference(bundle: BundleRef) -> Document:
    return {"version": bundle.version, "uri": bundle.uri, "digest": bundle.digest}


def _change(name: str, document: Document) -> ChampionChange:
    former = cast("Document | None", document["former"])
    return ChampionChange(
        action=Action(str(document["action"])),
        bundle=_referred(name, cast("Document", document["bundle"])),
        former=_referred(name, former) if former else None,
        promotion=Promotion(cast("datetime", document["at"]), str(document["who"]), str(document["why"])),
    )


def _change_document(change: ChampionChange) -> Document:
    return {
        "action": str(change.action),
        "bundle": _reference(change.bundle),
        "former": _reference(change.former) if change.former else None,
        **asdict(change.promotion),
    }


def _decision(name: str, document: Document) -> Decision:
    champion = cast("Document | None", document["compared_with"])
    return Decision(
        promote=cast("bool", document["promote"]),
        why=str(document["why"]),
        p_value=cast("float | None", document["p_value"]),
        compared_with=_referred(name, champion) if champion else None,
    )


def _decision_document(decision: Decision) -> Document:
    champion = decision.compared_with
    return asdict(decision) | {"compared_with": _reference(champion) if champion else None}


def _model(document: Document) -> RegisteredModel:
    name, decision = str(document["name"]), cast("Document | None", document.get("decision"))
    return RegisteredModel(
        bundle=_referred(name, document),
        training=str(document["training"]),
        metrics=cast("Mapping[str, float]", document["metrics"]),
        released_at=cast("datetime", document["released_at"]),
        decision=_decision(name, decision) if decision else None,
    )
