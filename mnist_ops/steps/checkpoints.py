"""A training's checkpoints: on the disk of the machine that trains, and in the object store."""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import Generation, sha256_hex
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts import check_digest, get_verified
from mnist_ops.vision.checkpoint import Checkpoint, checkpoint_of
from mnist_ops.vision.training_config import TrainingConfig

_NAME = re.compile(r"^epoch-(\d{6})-([0-9a-f]{64})\.safetensors$")

_log = logging.getLogger(__name__)


def epoch_in_name(uri: str) -> int | None:
    """The epoch that a checkpoint's URI or key names; None for what is no checkpoint."""
    match = _NAME.match(uri.rpartition("/")[2])
    return int(match[1]) if match else None


class StoredCheckpoints:
    """The checkpoints of one training: of one config on one data set, in one generation.

    Each is written to the disk first and then to the object store, so that a training goes on after
    losing either. Names carry the digest: a damaged one is passed over for the one before it.

    Args:
        objects: the object store.
        generation: whose training it is.
        dataset_uri: the data set's manifest.
        config: the training's.
        folder: of all trainings on this disk; None to keep checkpoints in the object store alone.
    """

    def __init__(
        self,
        objects: ObjectStore,
        generation: Generation,
        dataset_uri: str,
        config: TrainingConfig,
        folder: Path | None = None,
    ) -> None:
        trial = sha256_hex(f"{dataset_uri}\n{config.model_dump_json()}".encode())[:16]
        self._objects = objects
        self._prefix = f"trainings/{generation.id}/checkpoints-{trial}"
        self._folder = None if folder is None else folder / self._prefix

    def uris(self) -> list[str]:
        """Those in the object store, one an epoch, the first epoch first."""
        stored = {}
        for key in sorted(self._objects.keys(f"{self._prefix}/")):
            if epoch := epoch_in_name(key):
                stored[epoch] = self._objects.uri(key)
        return [uri for _, uri in sorted(stored.items())]

    def newest(self) -> Checkpoint | None:
        """The one of the latest epoch that is whole."""
        for name in self._names():
            try:
                return checkpoint_of(self._read(name))
            except Permanent as error:
                _log.warning("passing over a checkpoint: %s", error)
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        data = checkpoint.to_bytes()
        name = f"epoch-{checkpoint.epoch:06d}-{sha256_hex(data)}.safetensors"
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = self._folder / f"{name}.unfinished"
            unfinished.write_bytes(data)
            os.replace(unfinished, self._folder / name)  # noqa: PTH105 (atomic: a killed one leaves no half)
        self._objects.put_bytes(f"{self._prefix}/{name}", data)

    def leave_the_disk(self) -> None:
        """Remove those on the disk: the training is done, and the object store has all."""
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._folder)

    def _names(self) -> Iterator[str]:
        """The names of all, the latest epoch first."""
        here = [path.name for path in self._folder.glob("*")] if self._folder is not None else []
        stored = [key.rpartition("/")[2] for key in self._objects.keys(f"{self._prefix}/")]
        yield from sorted((name for name in {*here, *stored} if _NAME.match(name)), reverse=True)

    def _read(self, name: str) -> bytes:
        path = None if self._folder is None else self._folder / name
        if path is not None and path.exists():
            data = path.read_bytes()
            with contextlib.suppress(Damaged):
                check_digest(str(path), sha256_hex(data), name[13:77])
                return data
            _log.warning("%s is damaged: taking the object store's", path)
        return get_verified(self._objects, self._objects.uri(f"{self._prefix}/{name}"))
