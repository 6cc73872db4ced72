"""Snapshots that are taken from the command line, each a run of its own, and runs that go on with one."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnist_ops.cli.options import now
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import Generation, cli_run_key, part_reference
from mnist_ops.domain.selection import Selection

if TYPE_CHECKING:
    from mnist_ops.wiring import Adapters


def take_snapshot(adapters: "Adapters", selection: Selection) -> tuple[str, list[str]]:
    """Take a snapshot; returns the manifest's URI and its parts as strings."""
    from mnist_ops.steps.artifacts import read_manifest
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
    """How far a run has come.

    Attributes:
        parts: its parts as strings, by number.
        images: the image shards that are stored, by part.
        predictions: the prediction shards that are stored, by part.
    """

    parts: Mapping[int, str]
    images: Mapping[int, str]
    predictions: Mapping[int, str]


def progress(adapters: "Adapters", manifest_uri: str) -> Progress:
    """Look up how far the run of a snapshot has come.

    Raises:
        ObjectMissing, Damaged: there is no such manifest.
        Permanent: it is not the one that its run committed.
    """
    from mnist_ops.steps.artifacts import read_manifest
    from mnist_ops.steps.shards import stored_shards

    manifest = read_manifest(adapters.objects, manifest_uri)
    standing = adapters.runs.committed(manifest.generation)
    if standing != manifest_uri:
        raise Permanent(f"{manifest_uri}: not the snapshot of {manifest.generation.id}, which is {standing}")
    images, predictions = (
        stored_shards(adapters.objects, kind, manifest.generation) for kind in ("images", "predictions")
    )
    parts = {part.number: part_reference(manifest_uri, part.number) for part in manifest.parts}
    return Progress(parts, images, predictions)
