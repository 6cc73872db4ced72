"""Draw a random sample of the predictions of some runs, for people to label."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from mnist_ops.domain.audit import Audit, Predicted, draw, random_rank
from mnist_ops.domain.cursors import LedgerCursor
from mnist_ops.domain.drawn_audits import LARGEST_SAMPLE, STRATA, DrawnAudit, DrawnPrediction
from mnist_ops.domain.errors import Damaged, UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import ObjectStore, RunStore
from mnist_ops.domain.review_ports import AuditStore
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES, PREDICTIONS, PredictedRow
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.steps.run_records import outcome_shards

_LEDGERS_AT_ONCE = 100
_COLUMNS = ["record_id", "url", "sha256", "index", "confidence"]


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """Which predictions to draw from, and how.

    Attributes:
        drawn_by: who draws.
        run: the generation whose predictions are drawn from; None for those of `since`.
        since: the runs that finished at or after this time (UTC), each in its newest generation; None for
            every run.
        size: how many predictions people are to label, 1 to 1,000.
        strata: a name of `STRATA`.
        seed: another seed draws another sample; None for a random one.
        most: refuse to read more predictions than this; None for any number.
    """

    drawn_by: str
    run: Generation | None = None
    since: datetime | None = None
    size: int = 200
    strata: str = "confidence"
    seed: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """A run to draw from: its ledger and its outcome shards."""

    generation: Generation
    outcome_uris: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Published:
    """A published prediction, as its shard has it."""

    generation: Generation
    label: str
    row: PredictedRow

    @property
    def id(self) -> str:
        """Names the prediction: a record has one of each run."""
        return f"{self.generation.id} {self.row['record_id']}"


def draw_audit(
    request: AuditRequest, *, runs: RunStore, objects: ObjectStore, audits: AuditStore, now: datetime
) -> DrawnAudit:
    """Draw a sample of the predictions that runs published, and store it.

    The shards are read twice, a row group at a time: to draw, then for what was drawn. A record that two of
    the runs predicted has two predictions, and either may be drawn.

    Raises:
        UsageError: there is nothing to draw from or too much, or the sample has an impossible size.
    """
    if not 1 <= request.size <= LARGEST_SAMPLE:
        raise UsageError(f"a sample of {request.size}: choose 1 to {LARGEST_SAMPLE:,} predictions")
    if request.strata not in STRATA:
        raise UsageError(f"strata {request.strata!r}: choose one of {', '.join(STRATA)}")
    sources = _sources(request, runs)
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    audit, labels = _drawn(sources, objects, request, seed)
    drawn = DrawnAudit(
        id=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        seed=seed,
        strata=request.strata,
        records=audit.records,
        runs=tuple(source.generation for source in sources),
        labels=labels,
        sample=_sample(audit, sources, objects),
        drawn_by=request.drawn_by,
        drawn_at=now,
    )
    audits.put(drawn)
    return drawn


def _sources(request: AuditRequest, runs: RunStore) -> list[_Source]:
    """The runs that published predictions, oldest first.

    Raises:
        UsageError: there are none, or they have more predictions than the request allows.
    """
    if request.run is not None:
        ledger = runs.ledger(request.run)
        if ledger is None:
            raise UsageError(f"{request.run.id}: no finished run of this key and generation")
        chosen = [ledger]
    else:
        chosen = _ledgers_since(request, runs)
    predicted = sum(_predicted(ledger) for ledger in chosen)
    if not predicted:
        raise UsageError("no prediction was published by these runs; choose an earlier time or another run")
    _require_at_most(request.most, predicted)
    return [_source(ledger, runs) for ledger in reversed(chosen) if _predicted(ledger)]


def _require_at_most(most: int | None, predicted: int) -> None:
    if most is not None and predicted > most:
        raise UsageError(
            f"these runs published more than {most:,} predictions, which are read at most here: "
            "choose one run or a later time, or use mnist-ops audits draw"
        )


def _ledgers_since(request: AuditRequest, runs: RunStore) -> list[Mapping[str, object]]:
    """The ledger of the newest generation of each run, newest first.

    Raises:
        UsageError: they have more predictions than the request allows; no further ledger is then read.
    """
    newest: dict[str, Mapping[str, object]] = {}
    before: LedgerCursor | None = None
    while page := runs.newest_ledgers(_LEDGERS_AT_ONCE, before):
        for ledger in page:
            if request.since is not None and cast("datetime", ledger["finished_at"]) < request.since:
                return list(newest.values())
            newest.setdefault(str(ledger["run"]), ledger)
        _require_at_most(request.most, sum(map(_predicted, newest.values())))
        before = LedgerCursor.of(page[-1])
    return list(newest.values())


def _predicted(ledger: Mapping[str, object]) -> int:
    return cast("Mapping[str, int]", ledger["outcomes"]).get(Outcome.PREDICTED, 0)


def _source(ledger: Mapping[str, object], runs: RunStore) -> _Source:
    generation = Generation(str(ledger["run"]), cast("int", ledger["generation"]))
    whole = ledger if "refers_to" in ledger else runs.ledger(generation) or {"refers_to": []}
    uris = outcome_shards(generation, cast("Sequence[str]", whole["refers_to"])).values()
    return _Source(generation, list(uris))


def _drawn(
    sources: Sequence[_Source], objects: ObjectStore, request: AuditRequest, seed: int
) -> tuple[Audit, tuple[str, ...]]:
    """The ids that are drawn, and the labels that were predicted, in the order of the newest label table."""
    labels: dict[str, None] = {}

    def predictions() -> Iterator[Predicted]:
        for published, names in _published(sources, objects):
            labels.update(dict.fromkeys(names))
            yield Predicted(published.id, published.row["index"], published.row["confidence"])

    try:
        return draw(predictions(), request.size, seed, STRATA[request.strata]), tuple(labels)
    except ValueError as error:
        raise UsageError(f"{error}: draw a larger sample, or use fewer strata") from error


def _sample(audit: Audit, sources: Sequence[_Source], objects: ObjectStore) -> tuple[DrawnPrediction, ...]:
    """What was drawn, in random order over all strata: so an unfinished audit has answers of each of them."""
    strata = {id_: stratum for stratum, ids in audit.sample.items() for id_ in ids}
    found = {
        published.id: _drawn_prediction(published, strata[published.id])
        for published, _ in _published(sources, objects)
        if published.id in strata
    }
    return tuple(found[id_] for id_ in sorted(found, key=lambda id_: random_rank(audit.seed, id_)))


def _drawn_prediction(published: _Published, stratum: str) -> DrawnPrediction:
    row = published.row
    return DrawnPrediction(
        record=row["record_id"],
        stratum=stratum,
        url=row["url"],
        sha256=row["sha256"],
        generation=published.generation,
        label=published.label,
        confidence=row["confidence"],
    )


def _published(
    sources: Sequence[_Source], objects: ObjectStore
) -> Iterator[tuple[_Published, tuple[str, ...]]]:
    """The published predictions of runs, each with the label table that predicted it."""
    for source in sources:
        for uri in source.outcome_uris:
            with open_shard(objects, uri, OUTCOMES) as outcomes:
                if outcomes.header.source is None:
                    raise Damaged(f"{uri}: does not name the prediction shard that it was made from")
                with open_shard(objects, outcomes.header.source, PREDICTIONS) as predictions:
                    labels = tuple(predictions.header.labels)
                    pairs = zip(outcomes.rows(["outcome"]), predictions.rows(_COLUMNS), strict=True)
                    for outcome, row in pairs:
                        if outcome["outcome"] == Outcome.PREDICTED:
                            predicted = cast("PredictedRow", row)
                            label = labels[predicted["index"]]
                            yield _Published(source.generation, label, predicted), labels
