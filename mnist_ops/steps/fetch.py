"""Fetch: the images of a part's records into an image shard."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.images import FetchedImage, FetchFailure, UnchangedImage
from mnist_ops.domain.keys import sha256_hex, split_part_reference
from mnist_ops.domain.ports import ImageFetcher, ObjectStore, RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.selection import Reclassify
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.datasets import KnownImage, known_images
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.artifacts.shards import Row, ShardHeader, ShardWriter
from mnist_ops.steps.earlier_images import EarlierImage, earlier_images


def fetch(
    part_reference: str,
    *,
    records: RecordStore,
    objects: ObjectStore,
    images: ImageFetcher,
    now: Callable[[], datetime],
    reuse_dataset: str | None = None,
) -> str:
    """Fetch the images of one part.

    Where predicted records are classified again, a server is asked only for what has changed since the
    run that predicted them, if that run's image shards are still there.

    Args:
        part_reference: `<manifest uri>#<part>`.
        records: reads the records' fields.
        objects: where parts and shards lie.
        images: gets images by URL.
        now: the wall clock (UTC), for `fetched_at`.
        reuse_dataset: the manifest of a data set; images it has for the same URL are not fetched.

    Returns:
        The URI of the image shard: one row a record, in the part's order.
    """
    manifest_uri, number = split_part_reference(part_reference)
    watch = Stopwatch("fetch", objects.requests, objects.moved)
    manifest = read_manifest(objects, manifest_uri)
    part = manifest.part(number)
    known: Mapping[str, KnownImage] = {}
    earlier: Mapping[str, EarlierImage] = {}
    with watch.reading():
        if reuse_dataset is not None:
            urls = {records.head(document).image_url for document in read_part(objects, part)}
            known = known_images(objects, reuse_dataset, urls)
        if manifest.selection.reclassify is not Reclassify.NEVER:
            earlier = earlier_images(objects, map(records.head, read_part(objects, part)))
    heads = map(records.head, read_part(objects, part))
    answers = fetch_each(heads, images, known, earlier, dated=not manifest.selection.labelled)
    received: set[str] = set()
    size = 0
    with ShardWriter("images") as shard:
        for head, answer in watch.reads(answers):
            row = _row(head, answer, received)
            row["fetched_at"] = now()
            size += len(answer.payload) if isinstance(answer, FetchedImage) else 0
            shard.add(row)
        stages = {"fetch": watch.report(shard.records, size)}
        header = ShardHeader(
            "images", manifest_uri, number, shard.records, shard.failures, stages, source=part.uri
        )
        return shard.store(objects, manifest.generation, header)


Answer = FetchedImage | FetchFailure | KnownImage | ItemRejected


def fetch_each(
    heads: Iterable[RecordHead],
    images: ImageFetcher,
    known: Mapping[str, KnownImage],
    earlier: Mapping[str, EarlierImage],
    *,
    dated: bool,
) -> Iterator[tuple[RecordHead, Answer]]:
    """Pair every record, in order, with its image or with the reason why there is none.

    Args:
        heads: the records; read ahead as far as the fetcher wants.
        images: asked only for what nothing else answers.
        known: images that need no fetching, by URL.
        earlier: images that are fetched only if they have changed, by URL.
        dated: whether a record must have a creation time.
    """
    waiting: deque[tuple[RecordHead, Answer | None]] = deque()

    def urls() -> Iterator[str]:
        for head in heads:
            answer = _without_fetching(head, known, dated=dated)
            waiting.append((head, answer))
            if answer is None and head.image_url is not None:
                yield head.image_url

    validators = {url: image.validators for url, image in earlier.items()}
    for result in images.fetch(urls(), validators):
        head, answer = waiting.popleft()
        while answer is not None:
            yield head, answer
            head, answer = waiting.popleft()
        yield head, earlier[result.url].image if isinstance(result, UnchangedImage) else result
    for head, answer in waiting:
        if answer is None:
            raise AssertionError(f"the image fetcher gave no answer for {head.image_url}")
        yield head, answer


def _without_fetching(head: RecordHead, known: Mapping[str, KnownImage], *, dated: bool) -> Answer | None:
    if dated and head.created_at is None:
        return ItemRejected(Reason.BAD_CREATED_AT, "the creation time is missing or no date; store a date")
    if head.image_url is None:
        return ItemRejected(Reason.INVALID_URL, "the image URL is missing or no string; store a URL")
    return known.get(head.image_url)


def _row(head: RecordHead, answer: Answer, received: set[str]) -> Row:
    row: Row = {"record_id": head.id_json, "url": head.image_url}
    if isinstance(answer, FetchedImage):
        payload = answer.payload
        row["sha256"] = sha256 = sha256_hex(payload)
        row["http_status"], row["bytes"] = answer.http_status, len(payload)
        if answer.validators is not None:
            row["etag"], row["last_modified"] = answer.validators
        if sha256 not in received:
            received.add(sha256)
            row["payload"] = payload
    elif isinstance(answer, FetchFailure):
        row |= {
            "reason": str(answer.reason),
            "detail": answer.detail,
            "http_status": answer.http_status,
            "retry_after_s": answer.retry_after_s,
        }
    elif isinstance(answer, KnownImage):
        row |= {"sha256": answer.sha256, "image_uri": answer.image_uri}
    else:
        row |= {"reason": str(answer.reason), "detail": answer.detail}
    return row
