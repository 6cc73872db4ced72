"""Released bundles in the object store: download, load and upload them."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.artifacts.objects import check_digest
from mnist_ops.vision.inference.classifier import Predictions

CARD = "card.json"


class Classifier(Protocol):
    """A loaded bundle. Several threads may call its methods at once."""

    @property
    def device(self) -> str:
        """Where it runs: cpu or cuda."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by index."""

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities (N, classes) of images (N, 28, 28)."""

    def predict(self, images: npt.NDArray[np.uint8]) -> Predictions:
        """The same probabilities, and whether each image is a digit."""


# Loads a bundle from a folder, given its digest.
Load = Callable[[Path, str], Classifier]


def load_bundle(objects: ObjectStore, bundle: BundleRef, load: Load) -> Classifier:
    """Download a bundle and load it; its files are removed afterwards.

    Raises:
        ObjectMissing, Damaged: the bundle in the store is not the one that was released.
    """
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        return load(download_bundle(objects, bundle, Path(folder)), bundle.digest)


class BundleCache:
    """Keeps the bundle that was used last, for a process that classifies again and again."""

    def __init__(self) -> None:
        self._kept: tuple[str, Classifier] | None = None

    def load(self, objects: ObjectStore, bundle: BundleRef, load: Load) -> Classifier:
        """As `load_bundle`, but nothing is read if it is the same bundle as the last time."""
        if self._kept is None or self._kept[0] != bundle.digest:
            self._kept = bundle.digest, load_bundle(objects, bundle, load)
        return self._kept[1]


def download_bundle(objects: ObjectStore, bundle: BundleRef, folder: Path) -> Path:
    """Download a bundle's files into a folder; each is verified by its card, and the card by its digest.

    Raises:
        ObjectMissing, Damaged: the bundle in the store is not the one that was released.
    """
    card = _card_bytes(objects, bundle)
    files = json.loads(card).get("files")
    if not isinstance(files, dict):
        raise Damaged(f"{bundle.uri}/{CARD}: names no files")
    folder.mkdir(parents=True, exist_ok=True)
    for name, promised in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Damaged(f"{bundle.uri}/{CARD}: {name!r} is outside of the bundle")
        # Verified in memory before it is written. The classifier holds the files in memory anyway.
        content = objects.get_bytes(f"{bundle.uri}/{name}")
        check_digest(f"{bundle.uri}/{name}", sha256_hex(content), promised)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / CARD).write_bytes(card)
    return folder


def read_card(objects: ObjectStore, bundle: BundleRef) -> dict[str, object]:
    """Read only the card of a released bundle, verified by its digest.

    Raises:
        ObjectMissing, Damaged: the card in the store is not the one that was released.
    """
    card: dict[str, object] = json.loads(_card_bytes(objects, bundle))
    return card


def _card_bytes(objects: ObjectStore, bundle: BundleRef) -> bytes:
    uri = f"{bundle.uri}/{CARD}"
    card = objects.get_bytes(uri)
    check_digest(uri, f"sha256:{sha256_hex(card)}", bundle.digest)
    return card


def upload_bundle(objects: ObjectStore, folder: Path, prefix: str) -> str:
    """Upload a bundle's files, the card last; returns the bundle's URI."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    for path in [*files, folder / CARD]:
        objects.put_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
    return objects.uri(prefix)
