"""Names of runs and generations, and the keys of their objects in the store.

A key is unique to an attempt, or has the sha256 of the object in it. So an object never changes once it is
written.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

from mnist_ops.domain.errors import UsageError

_PART_IN_NAME = re.compile(r"/part-(\d{5,})-[0-9a-f]{64}\.parquet$")
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{64})\.[a-z]+$")


@dataclass(frozen=True, slots=True)
class Generation:
    """One selection of records by one run, and everything that is made from it.

    Attributes:
        run: the run key, `dag_id/run_id` percent-encoded, or `cli/<utc>-<token>`.
        number: how often the run was cleared before its snapshot ran.
    """

    run: str
    number: int = 0

    @property
    def id(self) -> str:
        """The generation as one string: the `_id` of its commit and of its ledger."""
        return f"{self.run}/{self.number}"

    @property
    def dag(self) -> str:
        """The first segment of the run key: the DAG, or `cli`."""
        return self.run.partition("/")[0]


def run_key(dag_id: str, run_id: str) -> str:
    """The run key of a DAG run: unique, and inside of its own folder whatever the run id is."""
    # Runs of the command line are under `cli/`, so a DAG of that name must not be.
    folder = "%63li" if dag_id == "cli" else _segment(dag_id)
    return f"{folder}/{_segment(run_id)}"


def cli_run_key(at: datetime, token: str) -> str:
    """The run key of a run that was started from the command line at `at` (UTC)."""
    return f"cli/{at:%Y%m%dT%H%M%SZ}-{_segment(token)}"


def is_of_cli(generation: Generation) -> bool:
    """Whether the command line started the run, rather than Airflow."""
    return generation.run.startswith("cli/")


def dag_run_of(key: str) -> tuple[str, str] | None:
    """The ids of the DAG and of the DAG run that a run key names; None for one of the command line."""
    folder, _, run = key.partition("/")
    return None if folder == "cli" else (unquote(folder), unquote(run))


def _segment(text: str) -> str:
    encoded = quote(text, safe="")
    return encoded.replace(".", "%2E") if set(encoded) == {"."} else encoded


def part_key(generation: Generation, attempt: str, part: int) -> str:
    """The key of a snapshot's part, written by one attempt."""
    return f"snapshots/{generation.run}/{attempt}/part-{part:05d}.bson.gz"


def manifest_key(generation: Generation, attempt: str, digest: str) -> str:
    """The key of a snapshot's manifest, written last."""
    return f"snapshots/{generation.run}/{attempt}/manifest-{digest}.json"


def shard_key(kind: str, generation: Generation, part: int, digest: str) -> str:
    """The key of an image, prediction or outcome shard of one part."""
    return f"{shard_prefix(kind, generation)}part-{part:05d}-{digest}.parquet"


def shard_prefix(kind: str, generation: Generation) -> str:
    """The prefix of the keys of all shards of a kind, from any attempt of the generation."""
    return f"{kind}/{generation.id}/"


def artifact_key(folder: str, generation: Generation, name: str, digest: str) -> str:
    """The key of any other object of a run; `name` is `stem.suffix`, and the digest goes between the two."""
    stem, suffix = name.split(".", 1)
    return f"{folder}/{generation.id}/{stem}-{digest}.{suffix}"


def bundle_prefix(name: str, version: int, digest: str) -> str:
    """The folder of a released model's files, without a trailing slash."""
    return f"models/{name}/{version:06d}-{digest.removeprefix('sha256:')}"


def is_of_generation(uri: str, generation: Generation) -> bool:
    """Whether a URI names a shard of this generation."""
    return uri.rpartition("/")[0].endswith(f"/{generation.id}")


def digest_in_name(uri: str) -> str:
    """The sha256 (hex) in the name of an immutable object.

    Raises:
        UsageError: there is no digest in the name.
    """
    match = _DIGEST_IN_NAME.search(uri)
    if match is None:
        raise UsageError(f"{uri}: not the name of an immutable object (no sha256 in it)")
    return match[1]


def part_in_name(uri: str) -> int:
    """The number of the part that a shard belongs to.

    Raises:
        UsageError: it is not the name of a shard.
    """
    match = _PART_IN_NAME.search(uri)
    if match is None:
        raise UsageError(f"{uri}: not the name of a shard")
    return int(match[1])


def sha256_hex(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def part_reference(manifest_uri: str, part: int) -> str:
    """One part of a committed snapshot, as a string for XCom and the command line."""
    return f"{manifest_uri}#{part}"


def split_part_reference(reference: str) -> tuple[str, int]:
    """The manifest's URI and the part's number.

    Raises:
        UsageError: it is not a part reference.
    """
    uri, separator, number = reference.rpartition("#")
    if not separator or not number.isdecimal():
        raise UsageError(f"{reference!r}: not a part, expected <manifest uri>#<number>")
    return uri, int(number)
