"""Released bundles in the object store: bring one here, or put one there."""

import json
from pathlib import Path

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.artifacts.objects import check_digest

CARD = "card.json"


def download_bundle(objects: ObjectStore, bundle: BundleRef, folder: Path) -> Path:
    """Bring a bundle's files into a folder, each verified against its card, the card against its digest.

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
            raise Damaged(f"{bundle.uri}/{CARD}: {name!r} lies outside the bundle")
        # In memory, as whoever loads the bundle has it anyway; nothing unverified is written.
        content = objects.get_bytes(f"{bundle.uri}/{name}")
        check_digest(f"{bundle.uri}/{name}", sha256_hex(content), promised)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / CARD).write_bytes(card)
    return folder


def read_card(objects: ObjectStore, bundle: BundleRef) -> dict[str, object]:
    """Read a released bundle's card alone, verified against its digest.

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
    """Put a bundle's files into the store, the card last; returns the bundle's URI."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    for path in [*files, folder / CARD]:
        objects.put_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
    return objects.uri(prefix)
