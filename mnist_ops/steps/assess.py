"""Assess: a generation's failures decide whether its predictions may be published."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote

from mnist_ops.domain.errors import Damaged, UsageError
from mnist_ops.domain.failure_examples import FailureExample, add_examples
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcome_lines import failure_lines, log_lines, wrapped
from mnist_ops.domain.outcomes import Assessment, FailureBudget
from mnist_ops.domain.ports import ObjectStore, RunStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.run_summary import release_lines
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.objects import get_verified, put_json, read_manifest
from mnist_ops.steps.artifacts.shard_kinds import PREDICTIONS
from mnist_ops.steps.artifacts.shards import open_shard, shards_by_part

_log = logging.getLogger(__name__)


def assess(
    manifest_uri: str,
    prediction_shards: Sequence[str],
    *,
    objects: ObjectStore,
    runs: RunStore,
    budget: FailureBudget,
) -> str:
    """Compare the failures of all parts with the failure budget, before anything is published.

    Args:
        manifest_uri: the snapshot's manifest.
        prediction_shards: the URIs of all its parts' prediction shards, in any order.
        objects: the store of manifest and shards.
        runs: knows whether somebody released the generation from being held.
        budget: how many records may fail.

    Returns:
        The URI of the assessment.

    Raises:
        Permanent: a part has no prediction shard.
    """
    watch = Stopwatch("assess", objects.requests, objects.moved)
    records, failures = 0, Counter[str]()
    examples: dict[str, list[FailureExample]] = {}
    with watch.reading():
        manifest = read_manifest(objects, manifest_uri)
        for uri in shards_by_part(objects, manifest_uri, prediction_shards).values():
            with open_shard(objects, uri, PREDICTIONS, manifest_uri) as shard:
                records += shard.header.records
                failures.update(shard.header.failures)
                add_examples(examples, shard.header.examples)
    held_because = budget.excess(failures, records)
    release = runs.hold_release(manifest.generation) if held_because else None
    assessment = Assessment(
        manifest=manifest_uri,
        records=records,
        failures=dict(failures),
        held_because=held_because,
        released_by=release.by if release else None,
        stage=watch.report(records),
    )
    _log_decision(manifest_uri, manifest.generation, assessment)
    log_lines(_log, failure_lines(failures, examples))
    return put_json(objects, "assessments", manifest.generation, "assessment.json", assessment.document())


def _log_decision(manifest_uri: str, generation: Generation, assessment: Assessment) -> None:
    """Log what happens to the predictions; in a run over its budget the reason comes first."""
    predictions = assessment.records - sum(assessment.failures.values())
    counts = f"{assessment.records} records, {predictions} predictions"
    if assessment.held_because is None:
        _log.info("%s", counts)
        return
    reason = wrapped(assessment.held_because)
    if assessment.released_by is not None:
        log_lines(_log, [*reason, f"{counts}: published, because {assessment.released_by} released the run"])
        return
    held = f"{predictions} predictions are held" if predictions else "no prediction is held"
    retried = any(Reason(name).can_hit_whole_run for name in assessment.failures)
    lines = [
        *reason,
        f"The run will be red: {held}, and only failures are written.",
        *(["Fix the cause: later runs try again what a setting or an outage can cause."] if retried else []),
        *release_lines(generation, manifest_uri, predictions),
    ]
    log_lines(_log, lines, logging.WARNING)


def read_assessment(objects: ObjectStore, uri: str) -> Assessment:
    """Read an assessment, verified."""
    return parse_assessment(get_verified(objects, uri), uri)


def parse_assessment(data: bytes, uri: str) -> Assessment:
    """Parse the bytes of an assessment; raises Damaged, naming its URI."""
    try:
        return Assessment.of(json.loads(data))
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{uri}: not an assessment ({error!r})") from error


def release_hold(generation: Generation, who: str, why: str, at: datetime, *, runs: RunStore) -> None:
    """Allow a held generation to be published, once `assess` runs again.

    Args:
        generation: which one; it may have no ledger yet.
        who: a person's name.
        why: one line for people.
        at: when (UTC).
        runs: the store of commits and ledgers.

    Raises:
        UsageError: it has taken no snapshot, or its ledger says that it is within its budget.
    """
    ledger = runs.ledger(generation)
    if ledger is not None and ledger["held_because"] is None:
        raise UsageError(
            f"{unquote(generation.run)}, generation {generation.number}: finished, and not over its failure "
            "budget, so there is nothing to release"
        )
    runs.release_hold(generation, who, why, at)
