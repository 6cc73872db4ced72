"""Snapshots that are taken from the command line, each a run of its own."""

import secrets
from typing import TYPE_CHECKING

from mnist_ops.cli.options import now
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
