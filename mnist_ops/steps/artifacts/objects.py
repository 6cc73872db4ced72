"""Immutable objects that are named by their digest: write one, and read one, verified."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import Generation, artifact_key, digest_in_name, sha256_hex
from mnist_ops.domain.manifest import Manifest
from mnist_ops.domain.ports import ObjectStore


def file_digest(path: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put_artifact(objects: ObjectStore, folder: str, generation: Generation, name: str, data: bytes) -> str:
    """Write a small object under its `artifact_key`; returns its URI."""
    return objects.put_bytes(artifact_key(folder, generation, name, sha256_hex(data)), data)


def put_json(
    objects: ObjectStore, folder: str, generation: Generation, name: str, document: Mapping[str, object]
) -> str:
    """Write canonical JSON under its `artifact_key`; returns its URI."""
    data = json.dumps(document, sort_keys=True, indent=1).encode()
    return put_artifact(objects, folder, generation, name, data)


def get_verified(objects: ObjectStore, uri: str) -> bytes:
    """Read a small digest-named object.

    Raises:
        ObjectMissing: it does not exist.
        Damaged: its bytes do not match the digest in its name.
    """
    data = objects.get_bytes(uri)
    check_digest(uri, sha256_hex(data), digest_in_name(uri))
    return data


def get_json(objects: ObjectStore, uri: str) -> dict[str, Any]:
    """Read what `put_json` wrote, verified."""
    try:
        document = json.loads(get_verified(objects, uri))
    except ValueError as error:
        raise Damaged(f"{uri}: not JSON ({error})") from error
    if not isinstance(document, dict):
        raise Damaged(f"{uri}: expected a JSON object")
    return document


def get_verified_file(objects: ObjectStore, uri: str, path: Path) -> Path:
    """Read a digest-named object of any size into a file."""
    objects.get_file(uri, path)
    check_digest(uri, file_digest(path), digest_in_name(uri))
    return path


@contextmanager
def open_parquet(path: Path, uri: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file that was read from a URI.

    Raises:
        Damaged: it is not a Parquet file.
    """
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise Damaged(f"{uri}: not a Parquet file ({error})") from error
    with file:
        yield file


def check_digest(what: str, found: str, promised: str) -> None:
    """Compare a digest with the expected one.

    Raises:
        Damaged: they differ; with both digests.
    """
    if found != promised:
        raise Damaged(f"{what}: its sha256 is {found}, promised was {promised}; restore the object")


def read_manifest(objects: ObjectStore, uri: str) -> Manifest:
    """Read a snapshot's manifest, verified."""
    return Manifest.from_json(get_verified(objects, uri))
