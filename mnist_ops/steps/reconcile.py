"""Reconcile: the outcome shards of a generation are compared with MongoDB and become its ledger."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from itertools import islice

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import is_of_cli
from mnist_ops.domain.manifest import Manifest, selection_document
from mnist_ops.domain.outcomes import Assessment, Ledger, Outcome
from mnist_ops.domain.ports import ObjectStore, RecordStore, RunStore
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.stages import StageReport, Stopwatch
from mnist_ops.steps.artifacts.objects import get_verified
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES, OutcomeRow
from mnist_ops.steps.artifacts.shards import ShardHeader, open_shard

_log = logging.getLogger(__name__)

_EXAMPLES = 5
_RECORDS_PER_LOOKUP = 1_000
_WRITTEN = frozenset({Outcome.PREDICTED, Outcome.QUARANTINED, Outcome.RETRY_LATER})


def reconcile(  # noqa: PLR0913 (the three stores, the clock and the prices are apart)
    manifest_uri: str,
    outcome_shards: Sequence[str],
    *,
    records: RecordStore,
    objects: ObjectStore,
    runs: RunStore,
    now: Callable[[], datetime],
    prices: Prices = Prices(),  # noqa: B008 (frozen)
) -> Ledger:
    """Write a generation's ledger, and fail unless it adds up.

    Every outcome that was written is looked up in MongoDB. If a later run or a deletion has replaced it
    since, it counts as superseded.

    Args:
        manifest_uri: the snapshot's manifest.
        outcome_shards: the URIs of its parts' outcome shards; the run fails if one is missing.
        records: the store that the outcomes were written to.
        objects: the store of manifest and shards.
        runs: the store of ledgers.
        now: the wall clock (UTC).
        prices: the price list that the run's cost is estimated by.

    Returns:
        The ledger. It is stored even if this raises.

    Raises:
        Permanent: the numbers do not add up, or predictions are held; with the numbers.
    """
    watch = Stopwatch("reconcile", objects.requests, objects.moved)
    with watch.reading():
        manifest, snapshot = _read_manifest(objects, manifest_uri)
    tally = _Tally(manifest, snapshot)
    for uri in outcome_shards:
        with ExitStack() as stack:
            with watch.reading():
                shard = stack.enter_context(open_shard(objects, uri, OUTCOMES, manifest_uri))
            tally.add_header(uri, shard.header)
            rows = watch.reads(shard.rows())
            while batch := list(islice(rows, _RECORDS_PER_LOOKUP)):
                written = tally.count(batch)
                with watch.writing():
                    heads = records.heads([row["record_id"] for row in written])
                tally.verify(written, heads)
    for uri in tally.assessments:
        tally.add_stage(_stage_of_assessment(objects, uri))
    tally.add_stage(watch.report(tally.outcomes.total()))
    ledger = Ledger(
        generation=manifest.generation,
        manifest=manifest_uri,
        selection=selection_document(manifest.selection),
        model=manifest.champion,
        selected=manifest.records,
        outcomes={str(outcome): tally.outcomes[str(outcome)] for outcome in Outcome},
        reasons=dict(tally.reasons),
        superseded=tally.superseded,
        missing_parts=[part.number for part in manifest.parts if part.number not in tally.parts],
        lost_writes=tally.lost,
        lost_write_count=tally.lost_count,
        stages=tally.stages,
        held_because=tally.held_because,
        finished_at=now(),
        refers_to=tally.references(),
        prices=prices,
    )
    runs.put_ledger(ledger)
    _log.info("%s: %s", manifest.generation.id, _summary(ledger))
    _raise_if_incomplete(ledger)
    return ledger


def _raise_if_incomplete(ledger: Ledger) -> None:
    imbalance = ledger.imbalance()
    if imbalance is not None:
        raise Permanent(f"{ledger.generation.id}: {imbalance}")
    held = ledger.outcomes[Outcome.HELD]
    if held:
        run, number = ledger.generation.run, ledger.generation.number
        then = (
            "continue it (`mnist-ops run resume`)"
            if is_of_cli(ledger.generation)
            else "clear the task `assess`"
        )
        raise Permanent(
            f"{ledger.generation.id}: {held} predictions are held: {ledger.held_because}. Look at the "
            f"failures; to publish anyway, run `mnist-ops release-hold {run} --generation {number} "
            f'--why "…"` and {then}'
        )


def _summary(ledger: Ledger) -> str:
    outcomes = ", ".join(f"{count} {name}" for name, count in ledger.outcomes.items())
    return f"{ledger.selected} selected = {outcomes}"


def _read_manifest(objects: ObjectStore, uri: str) -> tuple[Manifest, StageReport]:
    """The manifest, and the snapshot's report with the upload of the manifest added."""
    data = get_verified(objects, uri)
    manifest = Manifest.from_json(data)
    return manifest, manifest.stage.with_upload(objects.upload_requests(len(data)), len(data))


def _stage_of_assessment(objects: ObjectStore, uri: str) -> StageReport:
    """The report of assess, with the upload of the assessment added."""
    data = get_verified(objects, uri)
    return Assessment.of(json.loads(data)).stage.with_upload(objects.upload_requests(len(data)), len(data))


@dataclass(slots=True)
class _Tally:
    """Counts outcomes, compares each with its record, and adds up the reports of the steps.

    Attributes:
        manifest: the snapshot's.
        snapshot: the report of the snapshot.
        parts: the numbers of the parts that have an outcome shard.
        outcomes: records by outcome.
        reasons: failures by reason.
        superseded: outcomes that something later has replaced in the record.
        lost: ids of records that do not show their outcome, the first 5.
        lost_count: the number of all of them.
        held_because: why predictions were held, if they were.
        stages: the reports by step, summed over the parts.
        assessments: the URIs of the assessments that the parts were published by.
    """

    manifest: Manifest
    snapshot: InitVar[StageReport]
    parts: set[int] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    superseded: int = 0
    lost: list[str] = field(default_factory=list)
    lost_count: int = 0
    held_because: str | None = None
    stages: dict[str, StageReport] = field(default_factory=dict)
    assessments: dict[str, None] = field(default_factory=dict)
    _references: dict[str, None] = field(default_factory=dict)

    def __post_init__(self, snapshot: StageReport) -> None:
        self.add_stage(snapshot)

    def add_stage(self, report: StageReport) -> None:
        """Add the report of a step."""
        former = self.stages.get(report.stage)
        self.stages[report.stage] = former + report if former else report

    def add_header(self, uri: str, header: ShardHeader) -> None:
        """Add an outcome shard, and the shards that it was made from."""
        self.parts.add(header.part)
        self.held_because = self.held_because or header.held_because
        for report in header.stages.values():
            self.add_stage(report)
        if header.assessment is not None:
            self.assessments[header.assessment] = None
        self._references |= dict.fromkeys([uri, *header.refers_to])

    def references(self) -> list[str]:
        """The URIs of all shards and assessments that the outcomes come from."""
        return sorted(self._references | self.assessments)

    def count(self, rows: Sequence[OutcomeRow]) -> list[OutcomeRow]:
        """Count rows; returns those whose outcome was written into the record."""
        self.outcomes.update(row["outcome"] for row in rows)
        self.reasons.update(row["reason"] for row in rows if row["reason"] is not None)
        return [row for row in rows if row["outcome"] in _WRITTEN and row["reason"] != Reason.WRITE_REFUSED]

    def verify(self, written: Sequence[OutcomeRow], heads: Mapping[str, RecordHead]) -> None:
        """Compare written outcomes with the records as they are now."""
        for row in written:
            self._verify(row, heads.get(row["record_id"]))

    def _verify(self, row: OutcomeRow, head: RecordHead | None) -> None:
        if head is None:
            self.superseded += 1  # deleted since
        elif row["outcome"] == Outcome.PREDICTED:
            self._verify_prediction(head)
        else:
            self._verify_failure(head)

    def _lose(self, head: RecordHead) -> None:
        self.lost_count += 1
        if len(self.lost) < _EXAMPLES:
            self.lost.append(head.id_json)

    def _verify_prediction(self, head: RecordHead) -> None:
        generation = self.manifest.generation
        if (head.stamp.run, head.stamp.generation) == (generation.run, generation.number):
            return
        if head.stamp.digest is None:
            self._lose(head)
        else:
            self.superseded += 1

    def _verify_failure(self, head: RecordHead) -> None:
        if (head.failure.run, head.failure.last_at) == (self.manifest.generation.run, self.manifest.at):
            return
        # A later prediction removes a failure, a later failure replaces it.
        if head.failure.attempts == 0 and head.stamp.digest is None:
            self._lose(head)
        else:
            self.superseded += 1
