"""Images that runs fetched, found again in their image shards: for pages that show what a run saw."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.partial_shards import PartialShard, ReadBudget, open_partial_shard
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, ImageRow

# Other programs may have written anything into a record. Part of a key would be the prefix of many runs.
_RUN_KEY = re.compile(r"(?=.{3,512}\Z)[!-.0-~]+/[!-.0-~]+")
_SHARDS_AT_ONCE = 8
# A snapshot is ordered by time, and any shard may have the record. A page waits for this many at most.
_SHARDS_SEARCHED = 50


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


def images_of_rows(
    objects: ObjectStore, uri: str, rows: Sequence[int], budget: ReadBudget | None = None
) -> dict[str, bytes]:
    """The images of some rows of an image shard, by sha256.

    Left out are those of shards that garbage collection has deleted since, and those that exceed the budget.

    Args:
        objects: the store of shards.
        uri: the image shard.
        rows: positions of rows.
        budget: the bytes of images that may be read; None for any number.

    Raises:
        Damaged: an image is not what was fetched.
    """
    try:
        with open_partial_shard(objects, uri, IMAGES) as shard:
            table = shard.take(rows, ["sha256", "payload", "image_uri"], budget)
            found, elsewhere = _held(table, uri), _elsewhere(table, uri)
            # Of images with equal bytes only the first row of the shard has the payload.
            found |= _search(shard, elsewhere.pop(uri, set()) - found.keys(), uri, budget)
    except ObjectMissing:
        return {}
    for other, digests in elsewhere.items():
        found |= _images_in(objects, other, digests, budget)
    return found


def image_of_record(objects: ObjectStore, run: object, number: object, record_id: str) -> StoredImage | None:
    """What a run got for a record's URL; see `images_of_records`."""
    return images_of_records(objects, run, number, [record_id]).get(record_id)


def images_of_records(
    objects: ObjectStore, run: object, number: object, record_ids: Sequence[str]
) -> dict[str, StoredImage]:
    """What a run got for the URLs of records, by id; without those that no image shard of the run has.

    50 shards are searched at most. The records of a larger run may then have no image; `detail` says so.

    Args:
        objects: the store of shards, each of which is searched once.
        run: the key of the run, as the records have it.
        number: of the generation, as the records have it; None for the newest that has a record.
        record_ids: canonical Extended JSON.

    Raises:
        Damaged: an image is not what was fetched.
    """
    if not isinstance(run, str) or not _RUN_KEY.fullmatch(run):
        return {}
    folder = f"{IMAGES.name}/{run}/" if number is None else f"{IMAGES.name}/{run}/{number}/"
    uris = [objects.uri(key) for key in sorted(objects.keys(folder), reverse=True)]
    searched = uris[:_SHARDS_SEARCHED]
    missing, found = set(record_ids), dict[str, StoredImage]()
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool:
        searches = pool.map(lambda uri: _positions(objects, uri, record_ids), searched)
        for uri, positions in zip(searched, searches, strict=True):
            rows = [row for record, row in positions.items() if record in missing]
            found |= _stored_images(objects, uri, rows) if rows else {}
            missing -= positions.keys()
            if not missing:
                break
        pool.shutdown(cancel_futures=True)
    if len(uris) > len(searched):
        where = f"{len(searched)} of the run's {len(uris):,} image shards"
        detail = f"It is not in {where}, and is not looked for further."
        found |= dict.fromkeys(missing, StoredImage(None, None, detail=detail))
    return found


def _positions(objects: ObjectStore, uri: str, record_ids: Sequence[str]) -> dict[str, int]:
    """The rows of those records that an image shard has; none where it does not exist any more."""
    missing, positions = set(record_ids), dict[str, int]()
    try:
        with open_partial_shard(objects, uri, IMAGES) as shard:
            for first, group in shard.groups_with("record_id", missing, ["record_id"]):
                column = group["record_id"]
                here = {record: pc.index(column, record).as_py() for record in missing - positions.keys()}
                positions |= {record: first + row for record, row in here.items() if row >= 0}
                if len(positions) == len(missing):
                    break
    except ObjectMissing:
        pass
    return positions


def _stored_images(objects: ObjectStore, uri: str, rows: Sequence[int]) -> dict[str, StoredImage]:
    with open_partial_shard(objects, uri, IMAGES) as shard:
        taken = shard.take(rows, ["record_id", "sha256", "reason", "detail"]).to_pylist()
    payloads = images_of_rows(objects, uri, rows)
    return {
        row["record_id"]: StoredImage(
            row["sha256"], payloads.get(row["sha256"] or ""), row["reason"], row["detail"]
        )
        for row in taken
    }


def _elsewhere(table: pa.Table, uri: str) -> dict[str, set[str]]:
    """The digests of images that rows refer to and do not have, by the shard that holds them."""
    wanted: dict[str, set[str]] = {}
    for row in table.filter(pc.and_(pc.is_valid(table["sha256"]), pc.is_null(table["payload"]))).to_pylist():
        wanted.setdefault(row["image_uri"] or uri, set()).add(row["sha256"])
    return wanted


def _images_in(
    objects: ObjectStore, uri: str, digests: set[str], budget: ReadBudget | None
) -> dict[str, bytes]:
    try:
        with open_partial_shard(objects, uri, IMAGES) as shard:
            return _search(shard, digests, uri, budget)
    except ObjectMissing:
        return {}


def _search(
    shard: PartialShard[ImageRow], digests: Iterable[str], uri: str, budget: ReadBudget | None
) -> dict[str, bytes]:
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
    return _held(shard.take(rows, ["sha256", "payload"], budget), uri)


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
