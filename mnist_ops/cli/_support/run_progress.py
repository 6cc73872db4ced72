"""Runs of the command line: the generation of a new one, and how far an interrupted one has come."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation, cli_run_key, is_of_cli, part_reference
from mnist_ops.domain.ports import RunStore
from mnist_ops.pipeline import Pipeline, utc_now


def new_generation() -> Generation:
    """The first generation of a new run of the command line."""
    return Generation(cli_run_key(utc_now(), secrets.token_hex(4)))


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a `runs classify` has come.

    Attributes:
        parts: its parts as strings, by number.
        records: the number of records of each part, by number.
        images: the image shards that are stored, by part.
        predictions: the prediction shards that are stored, by part.
        ledger: the stored ledger; None while something is left to do.
    """

    parts: Mapping[int, str]
    records: Mapping[int, int]
    images: Mapping[int, str]
    predictions: Mapping[int, str]
    ledger: Mapping[str, object] | None


def progress_of(pipeline: Pipeline, manifest_uri: str) -> RunProgress:
    """Read from the stores how far the run of a snapshot has come.

    Raises:
        ObjectMissing, Damaged: there is no such manifest.
        UsageError: it is not the manifest that a `runs classify` committed.
    """
    from mnist_ops.steps.artifacts.shards import stored_shards

    adapters = pipeline.adapters
    manifest = pipeline.manifest(manifest_uri)
    generation = manifest.generation
    if not is_of_cli(generation) or manifest.selection.labelled:
        raise UsageError(
            f"{manifest_uri}: of {generation.run}, which is not a `runs classify`; clear the tasks of an "
            "Airflow run, or start `runs train` again"
        )
    committed = adapters.runs.committed(generation)
    if committed != manifest_uri:
        there = committed or "missing"
        raise UsageError(f"{manifest_uri}: not the snapshot of {generation.id}; that is {there}")
    parts = {part.number: part_reference(manifest_uri, part.number) for part in manifest.parts}
    shards = (stored_shards(adapters.objects, kind, generation) for kind in ("images", "predictions"))
    images, predictions = ({part: uri for part, uri in uris.items() if part in parts} for uris in shards)
    records = {part.number: part.records for part in manifest.parts}
    return RunProgress(parts, records, images, predictions, _ledger_of(adapters.runs, generation))


def _ledger_of(runs: RunStore, generation: Generation) -> Mapping[str, object] | None:
    """The ledger of a generation, if nothing is left to do: a second one would count later changes too."""
    ledger = runs.ledger(generation)
    done = ledger is not None and ledger["imbalance"] is None and ledger["held_because"] is None
    return ledger if done else None
