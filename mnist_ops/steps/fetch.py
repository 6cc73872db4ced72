"""Fetch: a part's images are downloaded into an image shard."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.images import FetchedImage, FetchFailure, UnchangedImage
from mnist_ops.domain.keys import sha256_hex, split_part_reference
from mnist_ops.domain.outcome_lines import failure_lines, log_lines
from mnist_ops.domain.ports import ImageFetcher, ObjectStore, RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.selection import Reclassify
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.datasets import KnownImage, known_images
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, FetchedRow, ImageRow, UnfetchedRow
from mnist_ops.steps.artifacts.shards import ShardHeader, ShardWriter
from mnist_ops.steps.earlier_images import EarlierImage, earlier_images

_log = logging.getLogger(__name__)


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

    If records that have a prediction are selected again, their images are requested conditionally: a server
    sends only those that have changed since the run that predicted them. This needs that run's image shards.

    Args:
        part_reference: `<manifest uri>#<part>`.
        records: reads the fields of records.
        objects: the store of parts and shards.
        images: the fetcher.
        now: the wall clock (UTC), for `fetched_at`.
        reuse_dataset: the manifest of a data set. Images that it has for the same URL are not fetched.

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
    with ShardWriter(IMAGES) as shard:
        for head, answer in watch.reads(answers):
            size += len(answer.payload) if isinstance(answer, FetchedImage) else 0
            shard.add(_row(head, answer, received, now()))
        stages, counts = {"fetch": watch.report(shard.records, size)}, shard.counts
        _log.info("%d records, %d images", shard.records, shard.records - counts.failures.total())
        log_lines(_log, failure_lines(counts.failures, counts.examples))
        header = ShardHeader(
            kind=IMAGES.name,
            manifest=manifest_uri,
            part=number,
            records=shard.records,
            failures=dict(counts.failures),
            stages=stages,
            source=part.uri,
            examples=counts.examples,
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
        heads: the records; the fetcher decides how far ahead they are read.
        images: the fetcher; it gets only the URLs that are not answered otherwise.
        known: images that are not fetched, by URL.
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
        return ItemRejected(Reason.BAD_CREATED_AT, "the creation time is missing or not a date; store a date")
    if head.image_url is None:
        return ItemRejected(Reason.INVALID_URL, "the image URL is missing or not a string; store a URL")
    return known.get(head.image_url)


def _row(head: RecordHead, answer: Answer, received: set[str], fetched_at: datetime) -> ImageRow:
    """A record's row; of images with equal bytes only the first row, per shard, has the payload."""
    if isinstance(answer, FetchedImage):
        return _fetched_row(head, answer, received, fetched_at)
    if isinstance(answer, KnownImage):
        return {
            "record_id": head.id_json,
            "url": head.image_url,
            "sha256": answer.sha256,
            "image_uri": answer.image_uri,
            "fetched_at": fetched_at,
        }
    row: UnfetchedRow = {
        "record_id": head.id_json,
        "url": head.image_url,
        "reason": str(answer.reason),
        "detail": answer.detail,
        "fetched_at": fetched_at,
    }
    if isinstance(answer, FetchFailure):
        row["http_status"], row["retry_after_s"] = answer.http_status, answer.retry_after_s
    return row


def _fetched_row(
    head: RecordHead, image: FetchedImage, received: set[str], fetched_at: datetime
) -> FetchedRow:
    payload = image.payload
    sha256 = sha256_hex(payload)
    first = sha256 not in received
    received.add(sha256)
    etag, last_modified = image.validators or (None, None)
    return {
        "record_id": head.id_json,
        "url": head.image_url,
        "sha256": sha256,
        "payload": payload if first else None,
        "http_status": image.http_status,
        "bytes": len(payload),
        "etag": etag,
        "last_modified": last_modified,
        "fetched_at": fetched_at,
    }
