"""The library's steps without Airflow: snapshot, fetch, classify, to prediction shards in S3."""

import os
import secrets

import onnxruntime  # noqa: F401 (else imported within the step; imports are not counted)

from benchmarks.contestants.place import Stages
from mnist_ops.adapters.mongo.connection import mongo_client
from mnist_ops.adapters.s3.connection import s3_client
from mnist_ops.connections import read_connection
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.selection import Selection
from mnist_ops.pipeline import Pipeline, utc_now
from mnist_ops.settings import settings_of
from mnist_ops.steps.classify import classify  # noqa: F401 (as above)
from mnist_ops.steps.fetch import fetch  # noqa: F401
from mnist_ops.steps.snapshot import snapshot  # noqa: F401
from mnist_ops.wiring import Adapters


def main() -> None:
    """Take all waiting records as far as they go without touching them."""
    stages, settings = Stages(), settings_of(os.environ)
    mongo, s3 = (
        read_connection(name, os.environ, settings.local_dir) for name in ("mongo_default", "aws_default")
    )
    client = mongo_client(mongo)
    store = s3_client(s3)
    pipeline = Pipeline(Adapters(settings, mongo=lambda: client, s3=lambda: store))
    with stages.stage("all"):
        with stages.stage("snapshot"):
            manifest = pipeline.snapshot(Generation(f"bench/{secrets.token_hex(4)}"), Selection(at=utc_now()))
        client.close()
        parts = pipeline.parts(manifest)
        with stages.stage("fetch"), pipeline.adapters.images() as images:
            shards = [pipeline.fetch(part, images=images) for part in parts]
        with stages.stage("classify"):
            for shard in shards:
                pipeline.classify(shard)
    stages.print_report()


main()
