"""Images that runs fetched, found again in their image shards: for pages that show what a run saw."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.partial_shards import PartialShard, open_partial_shard
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, ImageRow

_LONGEST_RUN = 512  # characters; other programs may have written any run key into a record
_SHARDS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What a run got for a record's URL.

    Attributes:
        sha256: of the image's bytes; None if there are none.
        payload: the bytes; None if there are none, or if they are not stored any more.
        reason: why there is no image; None if there is one.
        detail: one line for people about it.
    """

    sha256: str | None
    payload: bytes | None
    reason: str | None = None
    detail: str | None = None


def images_of_rows(objects: ObjectStore, uri: str, rows: Sequence[int]) -> dict[str, bytes]:
    """The images of some rows of an image shard, by sha256.

    Left out are those of shards that garbage collection has deleted since.

    Args:
        objects: the store of shards.
        uri: the image shard.
        rows: positions of rows.

    Raises:
        Damaged: an image is not what was fetched.
    """
    try:
        with open_partial_shard(objects, uri, IMAGES) as shard:
            table = shard.take(rows, ["sha256", "payload", "image_uri"])
            found, elsewhere = _held(table, uri), _elsewhere(table, uri)
            # Of images with equal bytes only the first row of the shard has the payload.
            found |= _search(shard, elsewhere.pop(uri, set()) - found.keys(), uri)
    except ObjectMissing:
        return {}
    for other, digests in elsewhere.items():
        found |= _images_in(objects, other, digests)
    return found


def image_of_record(objects: ObjectStore, run: object, number: object, record_id: str) -> StoredImage | None:
    """What a run got for a record's URL; None if no image shard of the run has the record.

    Args:
        objects: the store of shards.
        run: the key of the run, as the record has it.
        number: of the generation, as the record has it; None for the newest that has the record.
        record_id: canonical Extended JSON.

    Raises:
        Damaged: the image is not what was fetched.
    """
    if not (isinstance(run, str) and run and run.isascii() and run.isprintable()):
        return None
    if len(run) > _LONGEST_RUN:
        return None
    folder = f"{IMAGES.name}/{run}/" if number is None else f"{IMAGES.name}/{run}/{number}/"
    uris = [objects.uri(key) for key in sorted(objects.keys(folder), reverse=True)]
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool:
        places = pool.map(lambda uri: _position(objects, uri, record_id), uris)
        found = next(((uri, row) for uri, row in zip(uris, places, strict=True) if row is not None), None)
        pool.shutdown(cancel_futures=True)
    return None if found is None else _stored_image(objects, *found)


def _position(objects: ObjectStore, uri: str, record_id: str) -> int | None:
    """The row of a record in an image shard; None if it has none, or does not exist any more."""
    try:
        with open_partial_shard(objects, uri, IMAGES) as shard:
            for first, group in shard.groups_with("record_id", record_id, ["record_id"]):
                if (row := pc.index(group["record_id"], record_id).as_py()) >= 0:
                    return first + int(row)
    except ObjectMissing:
        pass
    return None


def _stored_image(objects: ObjectStore, uri: str, position: int) -> StoredImage:
    with open_partial_shard(objects, uri, IMAGES) as shard:
        (row,) = shard.take([position], ["sha256", "reason", "detail"]).to_pylist()
    sha256 = row["sha256"]
    payload = None if sha256 is None else images_of_rows(objects, uri, [position]).get(sha256)
    return StoredImage(sha256, payload, row["reason"], row["detail"])


def _elsewhere(table: pa.Table, uri: str) -> dict[str, set[str]]:
    """The digests of images that rows refer to and do not have, by the shard that holds them."""
    wanted: dict[str, set[str]] = {}
    for row in table.filter(pc.and_(pc.is_valid(table["sha256"]), pc.is_null(table["payload"]))).to_pylist():
        wanted.setdefault(row["image_uri"] or uri, set()).add(row["sha256"])
    return wanted


def _images_in(objects: ObjectStore, uri: str, digests: set[str]) -> dict[str, bytes]:
    try:
        with open_partial_shard(objects, uri, IMAGES) as shard:
            return _search(shard, digests, uri)
    except ObjectMissing:
        return {}


def _search(shard: PartialShard[ImageRow], digests: Iterable[str], uri: str) -> dict[str, bytes]:
    """Images of a shard by sha256: the first row of each has its payload."""
    missing, rows = set(digests), list[int]()
    for first, group in shard.groups(["sha256"]) if missing else ():
        column = group["sha256"]
        for digest in sorted(missing):
            if (row := pc.index(column, digest).as_py()) >= 0:
                rows.append(first + row)
                missing.remove(digest)
        if not missing:
            break
    return _held(shard.take(rows, ["sha256", "payload"]), uri)


def _held(table: pa.Table, uri: str) -> dict[str, bytes]:
    """The images of rows that have their payload.

    Raises:
        Damaged: an image is not what was fetched.
    """
    images: dict[str, bytes] = {}
    for row in table.filter(pc.is_valid(table["payload"])).select(["sha256", "payload"]).to_pylist():
        if sha256_hex(row["payload"]) != row["sha256"]:
            raise Damaged(f"{uri}: the image {row['sha256']} is not what was fetched; restore the object")
        images[row["sha256"]] = row["payload"]
    return images
