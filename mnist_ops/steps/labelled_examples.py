"""The rows of a data set, from a labelled snapshot and its image shards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ItemRejected
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.labels import LabelTable
from mnist_ops.domain.manifest import Manifest, Part
from mnist_ops.domain.ports import ObjectStore, RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import RecordHead
from mnist_ops.steps.artifacts.datasets import DatasetRow, ExampleRow
from mnist_ops.steps.artifacts.objects import check_digest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, ImageRow
from mnist_ops.steps.artifacts.shards import open_shard, require_rows_of
from mnist_ops.steps.earlier_images import borrowed_images
from mnist_ops.vision.data.folds import fold_of
from mnist_ops.vision.preprocessing.decode import decode

# The pixels, uint8 (28, 28), row by row, or the reason why there are none.
Picture = bytes | ItemRejected


@dataclass(frozen=True, slots=True)
class LabelledExamples:
    """A labelled snapshot with its image shards.

    Attributes:
        manifest_uri: the URI of the snapshot's manifest.
        manifest: the manifest.
        shards: the URIs of the image shards, by part number.
        records: reads the fields of records.
        objects: the store of parts and shards.
        labels: the names of the classes, by index.
    """

    manifest_uri: str
    manifest: Manifest
    shards: Mapping[int, str]
    records: RecordStore
    objects: ObjectStore
    labels: LabelTable

    def agreed_labels(self) -> dict[str, int | None]:
        """The class of every labelled image by its sha256; None where its records have different labels."""
        agreed: dict[str, int | None] = {}
        for part in self.manifest.parts:
            for head, image in self._pairs(part):
                label = self.labels.index(head.label)
                if label is not None and image["sha256"] is not None:
                    sha256 = image["sha256"]
                    agreed[sha256] = label if agreed.get(sha256, label) == label else None
        return agreed

    def rows(self, agreed: Mapping[str, int | None]) -> Iterator[DatasetRow]:
        """A row a record, in the order of the parts.

        Args:
            agreed: the result of `agreed_labels`.

        Raises:
            Damaged: a shard does not fit its part, or an image's bytes are not those that were fetched.
        """
        for part in self.manifest.parts:
            pictures = self._pictures(part)
            for head, image in self._pairs(part):
                image_uri = image["image_uri"] or self.shards[part.number]
                try:
                    yield self._example(head, image, image_uri, pictures, agreed)
                except ItemRejected as rejection:
                    yield {
                        "record_id": head.id_json,
                        "url": head.image_url,
                        "image_uri": image_uri,
                        "sha256": image["sha256"],
                        "reason": str(rejection.reason),
                        "detail": rejection.detail,
                    }

    def _pairs(self, part: Part) -> Iterator[tuple[RecordHead, ImageRow]]:
        columns = ["record_id", "sha256", "reason", "detail", "image_uri"]
        with open_shard(self.objects, self.shards[part.number], IMAGES, self.manifest_uri) as shard:
            require_rows_of(part, shard, self.shards[part.number])
            for document, image in zip(read_part(self.objects, part), shard.rows(columns), strict=True):
                head = self.records.head(document)
                if head.id_json != image["record_id"]:
                    raise Damaged(f"{self.shards[part.number]}: not in the order of part {part.uri}")
                yield head, image

    def _example(
        self,
        head: RecordHead,
        image: ImageRow,
        image_uri: str,
        pictures: Mapping[str, Picture],
        agreed: Mapping[str, int | None],
    ) -> ExampleRow:
        if image["reason"] is not None:
            raise ItemRejected(Reason(image["reason"]), image["detail"])
        label, sha256 = self.labels.index(head.label), image["sha256"]
        if label is None:
            known = ", ".join(self.labels.names)
            raise ItemRejected(Reason.UNKNOWN_LABEL, f"label {head.label!r:.80}: none of {known}")
        if agreed[sha256] is None:
            raise ItemRejected(Reason.LABEL_CONFLICT, "the same image carries another label elsewhere")
        picture = pictures[sha256]
        if isinstance(picture, ItemRejected):
            raise picture
        return {
            "record_id": head.id_json,
            "url": head.image_url,
            "image_uri": image_uri,
            "sha256": sha256,
            "label": label,
            "fold": str(fold_of(sha256)),
            "pixels": picture,
            "reason": None,
        }

    def _pictures(self, part: Part) -> dict[str, Picture]:
        """The decoded images of a part by sha256, verified, from its own shard and from earlier ones."""
        here = self.shards[part.number]
        pictures: dict[str, Picture] = {}
        with open_shard(self.objects, here, IMAGES) as shard:
            own = ((here, group) for group in shard.groups(["record_id", "sha256", "payload"]))
            for uri, group in chain(own, borrowed_images(self.objects, shard, here)):
                for row in group.filter(pc.is_valid(group["payload"])).to_pylist():
                    image = f"{uri}: the image of record {row['record_id']} is not what was fetched"
                    check_digest(image, sha256_hex(row["payload"]), row["sha256"])
                    pictures[row["sha256"]] = _decode(row["payload"])
        return pictures


def _decode(payload: bytes) -> Picture:
    try:
        return decode(payload).tobytes()
    except ItemRejected as rejection:
        return rejection
