"""What the overview shows: what needs a person, what waits, and how the newest runs did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mnist_ops.domain.champions import ChampionChange, Standing, standing_of
from mnist_ops.domain.ports import RegisteredModel, RunStore
from mnist_ops.domain.record_index import BoundedCount
from mnist_ops.domain.records import BundleRef
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.queries.runs import LedgerDocument, is_newest, released_by
from mnist_ops.steps.promote import objection_to

COUNTED_UP_TO = 500
_RUNS = 10
_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class RunToLookAt:
    """A run that a person has to look at; no later generation of it exists.

    Attributes:
        ledger: its ledger, without `refers_to`.
        problem: why, in words.
        held: whether it is over its failure budget, rather than out of balance.
        released_by: who released it from being held, if somebody did and it was not run on since.
    """

    ledger: LedgerDocument
    problem: str
    held: bool
    released_by: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """A deployment at a glance.

    Attributes:
        waiting: records that the next scheduled run would take.
        oldest_waiting: the earliest creation time of waiting records that were never tried; None if there are
            none.
        in_review: predictions that a person should look at.
        failed: records that no run tries again.
        runs: the ledgers of the newest runs, at most 10, newest first.
        runs_to_look_at: the runs that need a person, of whatever age, newest first.
        champion: the bundle in production; None if there is none.
        metrics: its measured figures.
        candidates: models that the gate allows to promote and that were never in production, newest first.
    """

    waiting: BoundedCount
    oldest_waiting: datetime | None
    in_review: BoundedCount
    failed: BoundedCount
    runs: Sequence[LedgerDocument]
    runs_to_look_at: Sequence[RunToLookAt]
    champion: BundleRef | None
    metrics: Mapping[str, float]
    candidates: Sequence[RegisteredModel]

    @property
    def predicted(self) -> int:
        """The records that the newest runs labelled."""
        return sum(ledger["outcomes"]["predicted"] for ledger in self.runs)

    @property
    def aged(self) -> LedgerDocument | None:
        """The newest run that labelled records for the first time, so that it knows their age."""
        return next((ledger for ledger in self.runs if ledger.get("age_s")), None)


def overview(pipeline: Pipeline) -> Overview:
    """Ask what the overview shows: a few bounded look-ups in indexes, whatever the collection's size."""
    ports, now = pipeline.adapters, pipeline.now()
    runs = ports.runs.newest_ledgers(_RUNS, now=now)
    name = pipeline.settings.model_name
    history, registered = ports.models.history(name), ports.models.models(name)
    champion = history[0].bundle if history else None
    return Overview(
        waiting=ports.record_index.waiting(now, COUNTED_UP_TO),
        oldest_waiting=ports.record_index.oldest_waiting(now),
        in_review=ports.record_index.in_review(COUNTED_UP_TO),
        failed=ports.record_index.permanently_failed(now, COUNTED_UP_TO),
        runs=runs,
        runs_to_look_at=_runs_to_look_at(ports.runs),
        champion=champion,
        metrics=next((model.metrics for model in registered if model.bundle == champion), {}),
        candidates=_candidates(history, registered),
    )


def _runs_to_look_at(runs: RunStore) -> list[RunToLookAt]:
    ledgers: Sequence[LedgerDocument] = runs.ledgers_with_problems(_PROBLEMS)
    return [
        RunToLookAt(
            ledger,
            "; ".join(filter(None, (ledger["imbalance"], ledger["held_because"]))),
            held=ledger["held_because"] is not None,
            released_by=released_by(runs, ledger),
        )
        for ledger in ledgers
        if is_newest(runs, ledger)
    ]


def _candidates(
    history: Sequence[ChampionChange], registered: Sequence[RegisteredModel]
) -> list[RegisteredModel]:
    """The models that the gate allows to promote and that were never in production, newest first."""
    champion = history[0].bundle if history else None
    return [
        model
        for model in reversed(registered)
        if standing_of(model.bundle, history) is Standing.CANDIDATE and objection_to(model, champion) is None
    ]
