"""The headers of shards."""

import json

from mnist_ops.domain.ages import AgeHistogram
from mnist_ops.steps.artifacts.shards import ShardHeader


def test_an_outcome_shard_of_an_earlier_version_has_no_ages() -> None:
    """Its run can still be reconciled."""
    header = ShardHeader("outcomes", "s3://bucket/manifest.json", 0, 0, {}, {})
    document = json.loads(header.metadata()["mnist_ops"])
    del document["ages"]
    read = ShardHeader.of({b"mnist_ops": json.dumps(document).encode()}, "s3://bucket/outcomes.parquet")
    assert read == header
    assert read.ages == AgeHistogram()
