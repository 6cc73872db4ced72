"""Snapshots that are taken from the command line, each a run of its own, and runs that go on with one."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mnist_ops.cli.options import now
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import Generation, cli_run_key, is_of_cli, part_reference
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.selection import Selection

if TYPE_CHECKING:
    from mnist_ops.wiring import Adapters


def take_snapshot(adapters: "Adapters", selection: Selection) -> tuple[str, list[str]]:
    """Take a snapshot; returns the manifest's URI and its parts as strings."""
    from mnist_ops.steps.artifacts.objects import read_manifest
    from mnist_ops.steps.snapshot import SnapshotRequest, snapshot

    request = SnapshotRequest(
        generation=Generation(cli_run_key(now(), secrets.token_hex(4))),
        selection=selection,
        attempt=secrets.token_hex(8),
        model_name=adapters.settings.model_name,
        records_per_part=adapters.settings.records_per_part,
    )
    uri = snapshot(
        request,
        records=adapters.records,
        objects=adapters.objects,
        runs=adapters.runs,
        models=adapters.models,
    )
    parts = read_manifest(adapters.objects, uri).parts
    return uri, [part_reference(uri, part.number) for part in parts]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run of `classify` has come.

    Attributes:
        parts: its parts as strings, by number.
        images: the image shards that are stored, by part.
        predictions: the prediction shards that are stored, by part.
        ledger: as it is stored, once nothing is left to do.
    """

    parts: Mapping[int, str]
    images: Mapping[int, str]
    predictions: Mapping[int, str]
    ledger: Mapping[str, object] | None


def progress_of(adapters: "Adapters", manifest_uri: str) -> Progress:
    """Look up how far the run of a snapshot has come.

    Raises:
        ObjectMissing, Damaged: there is no such manifest.
        Permanent: it is not the one that a run of `classify` on the command line committed.
    """
    from mnist_ops.steps.artifacts.objects import read_manifest
    from mnist_ops.steps.artifacts.shards import stored_shards

    manifest = read_manifest(adapters.objects, manifest_uri)
    generation = manifest.generation
    if not is_of_cli(generation) or manifest.selection.labelled:
        raise Permanent(
            f"{manifest_uri}: of {generation.run}, which is no `run classify`; clear the tasks of a run of "
            "Airflow, or start `run train` anew"
        )
    standing = adapters.runs.committed(generation)
    if standing != manifest_uri:
        there = standing or "missing"
        raise Permanent(f"{manifest_uri}: not the snapshot of {generation.id}; that is {there}")
    parts = {part.number: part_reference(manifest_uri, part.number) for part in manifest.parts}
    images, predictions = (
        {
            part: uri
            for part, uri in stored_shards(adapters.objects, kind, generation).items()
            if part in parts
        }
        for kind in ("images", "predictions")
    )
    return Progress(parts, images, predictions, _ledger_of(adapters, generation))


def _ledger_of(adapters: "Adapters", generation: Generation) -> Mapping[str, object] | None:
    """The ledger of a generation that left nothing to do: a second one would count what others did since."""
    for ledger in adapters.runs.ledgers(generation.id):
        outcomes = cast("Mapping[str, int]", ledger["outcomes"])
        if ledger["_id"] == generation.id and not ledger["missing_parts"] and not outcomes[Outcome.HELD]:
            return ledger
    return None
