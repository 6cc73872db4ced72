"""The library's steps without Airflow: snapshot, fetch, classify, to prediction shards in S3."""

import os
import secrets
from datetime import UTC, datetime

import onnxruntime  # noqa: F401 (else imported within the step; imports are not counted)

from benchmarks.contestants.place import Stages
from mnist_ops.adapters.mongo.connection import mongo_client
from mnist_ops.adapters.s3.connection import s3_client
from mnist_ops.domain.keys import Generation, part_reference
from mnist_ops.domain.selection import Selection, whole_milliseconds
from mnist_ops.settings import connection, settings_of
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.classify import classify
from mnist_ops.steps.fetch import fetch
from mnist_ops.steps.snapshot import SnapshotRequest, snapshot
from mnist_ops.wiring import assemble


def main() -> None:
    """Take all waiting records as far as they go without touching them."""
    stages, settings = Stages(), settings_of(os.environ)
    mongo, s3 = (
        connection(name, os.environ, settings.local_dir) for name in ("mongo_default", "aws_default")
    )
    client = mongo_client(mongo)
    adapters = assemble(settings, client, s3_client(s3))
    selection = Selection(at=whole_milliseconds(datetime.now(UTC)))
    token = secrets.token_hex(4)
    with stages.stage("all"):
        with stages.stage("snapshot"):
            uri = snapshot(
                SnapshotRequest(Generation(f"bench/{token}", 0), selection, token, "lenet5"),
                records=adapters.records,
                objects=adapters.objects,
                runs=adapters.runs,
                models=adapters.models,
            )
        client.close()
        parts = [part_reference(uri, part.number) for part in read_manifest(adapters.objects, uri).parts]
        with stages.stage("fetch"), adapters.images() as images:
            shards = [
                fetch(
                    part,
                    records=adapters.records,
                    objects=adapters.objects,
                    images=images,
                    now=lambda: datetime.now(UTC),
                )
                for part in parts
            ]
        with stages.stage("classify"):
            for shard in shards:
                classify(shard, objects=adapters.objects, load=adapters.load_classifier)
    stages.tell()


main()
