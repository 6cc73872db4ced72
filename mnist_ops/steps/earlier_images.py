"""Images that earlier runs stored: a server sends them again only if they have changed.

Then the new shard refers to the earlier one, and the steps after fetch read them there.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.images import Validators
from mnist_ops.domain.keys import Generation, shard_prefix
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.records import RecordHead
from mnist_ops.steps.artifacts.datasets import KnownImage
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, ImageRow
from mnist_ops.steps.artifacts.shards import Shard, open_shard

_LONGEST_RUN = 512  # characters; other programs may have written any run key into a record


class EarlierImage(NamedTuple):
    """The image that an earlier run got for a URL.

    Attributes:
        validators: the server's validators for it.
        image: the shard that holds it.
    """

    validators: Validators
    image: KnownImage


def earlier_images(objects: ObjectStore, heads: Iterable[RecordHead]) -> dict[str, EarlierImage]:
    """The images of records that have a prediction, as far as the predicting runs' image shards still exist.

    Args:
        objects: the store of image shards.
        heads: the records; those without a prediction, or with one for another URL, are ignored.

    Returns:
        The images by URL; only those for which the server sent validators.
    """
    wanted: dict[Generation, set[str]] = {}
    for head in heads:
        generation = _predicted_by(head)
        if generation is not None and head.image_url is not None:
            wanted.setdefault(generation, set()).add(head.image_url)
    found: dict[str, EarlierImage] = {}
    for generation, urls in wanted.items():
        # Several attempts may have stored a part. Each of their answers was right once.
        for key in list(objects.keys(shard_prefix("images", generation))):
            found |= _stored(objects, objects.uri(key), pa.array(urls, pa.string()))
    return found


def _predicted_by(head: RecordHead) -> Generation | None:
    if head.prediction is None:
        return None
    image, stamp = head.prediction.get("image"), head.stamp
    same_url = isinstance(image, dict) and image.get("url") == head.image_url
    run, number = stamp.run, stamp.generation
    if not (same_url and isinstance(run, str) and isinstance(number, int)):
        return None
    is_key = run.isascii() and run.isprintable() and len(run) <= _LONGEST_RUN
    return Generation(run, number) if is_key else None


def _stored(objects: ObjectStore, uri: str, urls: pa.Array) -> dict[str, EarlierImage]:
    columns = ["url", "sha256", "image_uri", "etag", "last_modified"]
    found = {}
    try:
        with open_shard(objects, uri, IMAGES) as shard:
            for group in shard.groups(columns):
                versioned = pc.or_(pc.is_valid(group["etag"]), pc.is_valid(group["last_modified"]))
                for row in group.filter(pc.and_(versioned, pc.is_in(group["url"], urls))).to_pylist():
                    found[row["url"]] = EarlierImage(
                        Validators(row["etag"], row["last_modified"]),
                        KnownImage(row["sha256"], row["image_uri"] or uri),
                    )
    except ObjectMissing:
        return {}  # deleted since it was listed
    return found


def borrowed_images(
    objects: ObjectStore, images: Shard[ImageRow], images_uri: str
) -> Iterator[tuple[str, pa.Table]]:
    """The images that rows of a shard refer to and that earlier shards hold.

    Returns:
        Tables with `record_id`, `sha256` and `payload`, each with the URI of the shard that holds it.

    Raises:
        ObjectMissing, Damaged: an earlier shard is missing, or does not hold an image that it should hold.
    """
    wanted: dict[str, set[str]] = {}
    if not images.header.refers_to:
        return
    for group in images.groups(["sha256", "image_uri"]):
        for row in group.filter(pc.is_valid(group["image_uri"])).to_pylist():
            wanted.setdefault(row["image_uri"], set()).add(row["sha256"])
    for uri, digests in wanted.items():
        missing = set(digests)
        with open_shard(objects, uri, IMAGES) as other:
            for group in other.groups(["record_id", "sha256", "payload"]):
                held = pc.and_(pc.is_valid(group["payload"]), pc.is_in(group["sha256"], pa.array(digests)))
                found = group.filter(held)
                missing -= set(found["sha256"].to_pylist())
                yield uri, found
        if missing:
            raise Damaged(f"{uri}: does not hold the image {min(missing)} that {images_uri} refers to")
