"""A data set: a Parquet file of labelled examples, and a small manifest that describes it."""

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.objects import get_json, get_verified_file, open_parquet
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.data.folds import Fold

FORMAT = 1

ROWS = pa.schema(
    [
        ("record_id", pa.string()),
        ("url", pa.string()),
        # The image shard that holds the image's bytes.
        ("image_uri", pa.string()),
        ("sha256", pa.string()),
        # Class index; null, like fold and pixels, where a reason says why the row is quarantined.
        ("label", pa.int8()),
        ("fold", pa.dictionary(pa.int8(), pa.string())),
        # uint8 (28, 28), ink 255, row by row.
        ("pixels", pa.binary(28 * 28)),
        ("reason", pa.dictionary(pa.int8(), pa.string())),
        ("detail", pa.string()),
    ]
)


class ExampleRow(TypedDict):
    """A row of a record that is a usable example."""

    record_id: str
    url: str | None
    image_uri: str
    sha256: str
    label: int
    fold: str
    pixels: bytes
    reason: None


class QuarantinedRow(TypedDict):
    """A row of a record that cannot be used, with the reason."""

    record_id: str
    url: str | None
    image_uri: str
    sha256: str | None
    reason: str
    detail: str


DatasetRow = ExampleRow | QuarantinedRow


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image that an earlier shard holds.

    Attributes:
        sha256: of its bytes, hexadecimal.
        image_uri: the shard that holds them.
    """

    sha256: str
    image_uri: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The manifest of a data set.

    Attributes:
        rows: the URI of the Parquet file.
        snapshot: the URI of the manifest of the snapshot it was built from.
        labels: the label table: names by class index.
        preprocessing: the version of the preprocessing that made its pixels.
        folds: usable examples by fold.
        classes: usable examples by label name.
        quarantined: rows by reason.
    """

    rows: str
    snapshot: str
    labels: tuple[str, ...]
    preprocessing: int
    folds: Mapping[str, int]
    classes: Mapping[str, int]
    quarantined: Mapping[str, int]

    def document(self) -> dict[str, object]:
        """As JSON-able values."""
        return {"format": FORMAT, **asdict(self)}


def read_dataset(objects: ObjectStore, uri: str) -> Dataset:
    """Read a data set's manifest, verified."""
    document = get_json(objects, uri)
    if document.pop("format", None) != FORMAT:
        raise Damaged(f"{uri}: not a data set of format {FORMAT}")
    try:
        return Dataset(**(document | {"labels": tuple(document["labels"])}))
    except (KeyError, TypeError) as error:
        raise Damaged(f"{uri}: not a data set's manifest ({error!r})") from error


@contextmanager
def open_rows(objects: ObjectStore, dataset: Dataset) -> Iterator[pq.ParquetFile]:
    """Open the Parquet file of a data set's rows, verified."""
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        path = get_verified_file(objects, dataset.rows, Path(folder) / "rows.parquet")
        with open_parquet(path, dataset.rows) as file:
            yield file


def known_images(
    objects: ObjectStore, dataset_uri: str, urls: Collection[str | None]
) -> dict[str, KnownImage]:
    """The images that a data set has for some URLs.

    Args:
        objects: the store of the data set.
        dataset_uri: its manifest.
        urls: the URLs; None is ignored.
    """
    wanted = pa.array([url for url in urls if url is not None], pa.string())
    known = {}
    with open_rows(objects, read_dataset(objects, dataset_uri)) as file:
        for batch in file.iter_batches(columns=["url", "sha256", "image_uri"]):
            # A row whose image could not be fetched has no digest; it is fetched again.
            usable = pc.and_(pc.is_in(batch["url"], wanted), pc.is_valid(batch["sha256"]))
            for row in batch.filter(usable).to_pylist():
                known[row["url"]] = KnownImage(row["sha256"], row["image_uri"])
    return known


def load_fold(objects: ObjectStore, dataset: Dataset, fold: Fold) -> Examples:
    """The usable examples of one fold, in the data set's order.

    Raises:
        Permanent: the fold is empty.
    """
    pixels, labels = [], []
    with open_rows(objects, dataset) as file:
        for batch in file.iter_batches(columns=["pixels", "label", "fold"]):
            chosen = batch.filter(pc.equal(batch["fold"].dictionary_decode(), str(fold)))
            pixels.append(np.frombuffer(b"".join(chosen["pixels"].to_pylist()), np.uint8))
            labels.append(np.array(chosen["label"].to_pylist(), np.uint8))
    images = np.concatenate(pixels).reshape(-1, 28, 28) if pixels else np.empty((0, 28, 28), np.uint8)
    if not len(images):
        raise Permanent(f"{dataset.rows}: its {fold} fold is empty; label more records")
    return Examples(images, np.concatenate(labels))
