"""A training's checkpoints: in a local folder of the machine that trains, and in the object store."""

import contextlib
import logging
import re
import shutil
from pathlib import Path

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import Generation, digest_in_name, sha256_hex
from mnist_ops.domain.outcome_lines import log_lines
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.objects import check_digest, get_verified
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.training.checkpoint import Checkpoint, checkpoint_of

_NAME = re.compile(r"^epoch-(\d{6})-([0-9a-f]{64})\.safetensors$")

_log = logging.getLogger(__name__)


def epoch_in_name(uri: str) -> int | None:
    """The epoch in a checkpoint's URI or key; None if it is not the name of a checkpoint."""
    match = _NAME.match(uri.rpartition("/")[2])
    return int(match[1]) if match else None


class StoredCheckpoints:
    """The checkpoints of one training, which is one configuration on one data set in one generation.

    Each is written to the local folder first and then to the object store, so that a training can continue
    if one of the two is lost. The names have the digest in them: a damaged checkpoint is ignored, and the one
    before it is used.

    Args:
        objects: the object store.
        generation: the generation of the training.
        dataset_uri: the data set's manifest.
        config: the configuration of the training.
        folder: the local folder of all trainings.
    """

    def __init__(
        self,
        objects: ObjectStore,
        generation: Generation,
        dataset_uri: str,
        config: TrainingConfig,
        folder: Path,
    ) -> None:
        trial = sha256_hex(f"{dataset_uri}\n{config.model_dump_json()}".encode())[:16]
        self._objects = objects
        self._prefix = f"trainings/{generation.id}/checkpoints-{trial}"
        self._folder = folder / self._prefix

    def uris(self) -> list[str]:
        """The URIs in the object store, one an epoch, in the order of the epochs."""
        uris = {epoch_in_name(name): self._uri(name) for name in sorted(self._stored())}
        return list(uris.values())

    def newest(self) -> Checkpoint | None:
        """The checkpoint of the latest epoch that is not damaged; None if there is none."""
        stored = self._stored()
        for name in sorted({*self._local(), *stored}, reverse=True):
            try:
                data = self._read(name)
                checkpoint = checkpoint_of(data)
                if name not in stored:  # the training was killed before the upload
                    self._objects.put_bytes(f"{self._prefix}/{name}", data)
                return checkpoint  # noqa: TRY300 (nothing but reading and keeping it may fail)
            except Permanent as error:
                log_lines(_log, ["a checkpoint is ignored:", str(error)], logging.WARNING)
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint."""
        data = checkpoint.to_bytes()
        name = f"epoch-{checkpoint.epoch:06d}-{sha256_hex(data)}.safetensors"
        try:
            _write(self._folder / name, data)
        except OSError as error:
            problem = "a checkpoint cannot be written locally; it is only in the object store:"
            log_lines(_log, [problem, str(error)], logging.WARNING)
        self._objects.put_bytes(f"{self._prefix}/{name}", data)

    def remove_local(self) -> None:
        """Remove the local files: the training is done, and the object store has all checkpoints."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def _local(self) -> set[str]:
        """The names of the local files."""
        return {path.name for path in self._folder.glob("epoch-*") if _NAME.match(path.name)}

    def _stored(self) -> set[str]:
        """The names in the object store."""
        names = {key.rpartition("/")[2] for key in self._objects.keys(f"{self._prefix}/")}
        return {name for name in names if _NAME.match(name)}

    def _read(self, name: str) -> bytes:
        path = self._folder / name
        if path.exists():
            try:
                data = path.read_bytes()
                check_digest(str(path), sha256_hex(data), digest_in_name(name))
            except (OSError, Damaged) as error:
                problem = "a local checkpoint cannot be used; it is read from the object store:"
                log_lines(_log, [problem, str(error)], logging.WARNING)
            else:
                return data
        return get_verified(self._objects, self._uri(name))

    def _uri(self, name: str) -> str:
        return self._objects.uri(f"{self._prefix}/{name}")


def _write(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)
