"""Reconcile: the ledger of a generation, from its outcome shards and held against MongoDB."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.manifest import Manifest, selection_document
from mnist_ops.domain.outcomes import Ledger, Outcome
from mnist_ops.domain.ports import ObjectStore, RecordStore, RunStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.stages import StageReport
from mnist_ops.steps.artifacts import read_manifest
from mnist_ops.steps.shards import Row, open_shard

_log = logging.getLogger(__name__)

_EXAMPLES = 5
_RECORDS_PER_LOOKUP = 1_000
_WRITTEN = frozenset({Outcome.PREDICTED, Outcome.QUARANTINED, Outcome.RETRY_LATER})


def reconcile(
    manifest_uri: str,
    outcome_shards: Sequence[str],
    *,
    records: RecordStore,
    objects: ObjectStore,
    runs: RunStore,
    now: Callable[[], datetime],
) -> Ledger:
    """Draw up a generation's ledger, keep it, and fail unless it adds up.

    Every outcome that was written is looked for in MongoDB. A record that a later run, a human
    label, an edited URL or a deletion changed since counts as superseded.

    Args:
        manifest_uri: the snapshot's manifest.
        outcome_shards: the URIs of its parts' outcome shards; a missing one makes the run red.
        records: where the outcomes were written.
        objects: where manifest and shards lie.
        runs: where the ledger is kept.
        now: the wall clock (UTC).

    Returns:
        The ledger; it is kept also where this raises.

    Raises:
        Permanent: the numbers do not add up, or predictions are held; with the numbers.
    """
    manifest = read_manifest(objects, manifest_uri)
    tally = _Tally(manifest)
    held_because = None
    for uri in outcome_shards:
        with open_shard(objects, uri, "outcomes", manifest_uri) as shard:
            tally.parts.add(shard.header.part)
            tally.add_stages(shard.header.stages)
            rows = shard.rows()
            while batch := list(islice(rows, _RECORDS_PER_LOOKUP)):
                tally.add(batch, records)
            held_because = held_because or shard.header.held_because
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
        held_because=held_because,
        finished_at=now(),
    )
    runs.put_ledger(ledger)
    _log.info("%s: %s", manifest.generation.id, _summary(ledger))
    _judge(ledger)
    return ledger


def _judge(ledger: Ledger) -> None:
    imbalance = ledger.imbalance()
    if imbalance is not None:
        raise Permanent(f"{ledger.generation.id}: {imbalance}")
    held = ledger.outcomes[Outcome.HELD]
    if held:
        run, number = ledger.generation.run, ledger.generation.number
        raise Permanent(
            f"{ledger.generation.id}: {held} predictions are held: {ledger.held_because}. Look at the "
            f"failures; to publish all the same, run `mnist-ops release-hold {run} --generation {number} "
            '--why "…"` and clear the task `assess`'
        )


def _summary(ledger: Ledger) -> str:
    outcomes = ", ".join(f"{count} {name}" for name, count in ledger.outcomes.items())
    return f"{ledger.selected} selected = {outcomes}"


@dataclass(slots=True)
class _Tally:
    """Counts outcomes and holds each against the record it is of."""

    manifest: Manifest
    parts: set[int] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    superseded: int = 0
    lost: list[str] = field(default_factory=list)
    lost_count: int = 0
    stages: dict[str, StageReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stages["snapshot"] = self.manifest.stage

    def add_stages(self, stages: Mapping[str, StageReport]) -> None:
        """Add what the steps cost on one part."""
        for name, report in stages.items():
            self.stages[name] = self.stages[name] + report if name in self.stages else report

    def add(self, rows: Sequence[Row], records: RecordStore) -> None:
        """Count rows, and look the written ones up."""
        self.outcomes.update(str(row["outcome"]) for row in rows)
        self.reasons.update(str(row["reason"]) for row in rows if row["reason"] is not None)
        written = [
            row for row in rows if row["outcome"] in _WRITTEN and row["reason"] != Reason.WRITE_REFUSED
        ]
        heads = records.heads([str(row["record_id"]) for row in written])
        for row in written:
            self._verify(row, heads.get(str(row["record_id"])))

    def _verify(self, row: Row, head: RecordHead | None) -> None:
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
        # A later prediction takes a failure away, a later failure replaces it.
        if head.failure.attempts == 0 and head.stamp.digest is None:
            self._lose(head)
        else:
            self.superseded += 1
