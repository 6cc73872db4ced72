"""Reconcile: the outcome shards of a generation are compared with MongoDB and become its ledger."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import islice

from mnist_ops.domain.manifest import Manifest, selection_document
from mnist_ops.domain.outcome_lines import log_lines
from mnist_ops.domain.outcomes import Assessment, FailureBudget, Ledger, Outcome
from mnist_ops.domain.ports import ObjectStore, RecordStore, RunStore
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.run_summary import RunFailed, freshness_lines, problem_lines, result_lines
from mnist_ops.domain.stages import StageReport, Stopwatch
from mnist_ops.steps.artifacts.objects import get_verified
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.steps.assess import parse_assessment
from mnist_ops.steps.outcome_tally import OutcomeTally

_log = logging.getLogger(__name__)

_RECORDS_PER_LOOKUP = 1_000


def reconcile(  # noqa: PLR0913 (the three stores, the clock and the rules are apart)
    manifest_uri: str,
    outcome_shards: Sequence[str],
    *,
    records: RecordStore,
    objects: ObjectStore,
    runs: RunStore,
    now: Callable[[], datetime],
    budget: FailureBudget,
    prices: Prices,
    freshness_s: float | None = None,
) -> Ledger:
    """Write a generation's ledger, and fail unless it adds up and the run is within its failure budget.

    Every outcome that was written is looked up in MongoDB. If a later run or a deletion has replaced it
    since, it counts as superseded. The failures are compared with the budget once more: after assess, the
    database may have refused writes.

    Args:
        manifest_uri: the snapshot's manifest.
        outcome_shards: the URIs of its parts' outcome shards; the run fails if one is missing.
        records: the store that the outcomes were written to.
        objects: the store of manifest and shards.
        runs: the store of ledgers; knows whether somebody released the generation.
        now: the wall clock (UTC).
        budget: how many records may fail.
        prices: the price list that the run's cost is estimated by.
        freshness_s: the freshness objective for the p95 of the records' ages, in seconds; None for none. A
            run over a window of the past, such as a backfill, has none.

    Returns:
        The ledger. It is stored even if this raises.

    Raises:
        RunFailed: the outcomes do not add up, or the run is over its failure budget and nobody released it.
    """
    watch = Stopwatch("reconcile", objects.requests, objects.moved)
    with watch.reading():
        manifest, snapshot = _read_manifest(objects, manifest_uri)
    tally = OutcomeTally(manifest.generation, manifest.at)
    tally.add_stage(snapshot)
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
    excess = budget.excess(tally.reasons, manifest.records)
    over_budget = excess is not None
    for uri in tally.assessments:
        assessment, stage = _read_assessment(objects, uri)
        tally.add_stage(stage)
        over_budget = over_budget or assessment.over_budget
    tally.add_stage(watch.report(tally.outcomes.total()))
    held_because = tally.held_because
    if held_because is None and excess is not None and runs.hold_release(manifest.generation) is None:
        held_because = excess
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
        refers_to=tally.references(),
        prices=prices,
        labels=dict(tally.labels),
        needs_review=tally.needs_review,
        examples=tally.examples,
        over_budget=over_budget,
        age=tally.ages.summary(),
        freshness_s=freshness_s if manifest.selection.since is None else None,
    )
    runs.put_ledger(ledger)
    log_lines(_log, result_lines(ledger))
    log_lines(_log, freshness_lines(ledger), logging.WARNING)
    if problem_lines(ledger):
        raise RunFailed(ledger)
    return ledger


def _read_manifest(objects: ObjectStore, uri: str) -> tuple[Manifest, StageReport]:
    """The manifest, and the snapshot's report with the upload of the manifest added."""
    data = get_verified(objects, uri)
    manifest = Manifest.from_json(data)
    return manifest, manifest.stage.with_upload(objects.upload_requests(len(data)), len(data))


def _read_assessment(objects: ObjectStore, uri: str) -> tuple[Assessment, StageReport]:
    """The assessment, and its report with the upload of the assessment added."""
    data = get_verified(objects, uri)
    assessment = parse_assessment(data, uri)
    return assessment, assessment.stage.with_upload(objects.upload_requests(len(data)), len(data))
