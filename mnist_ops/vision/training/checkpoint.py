"""The whole state of a training between two epochs, in one safetensors file: no pickle.

The tensors are those of the model, its average, the best average so far, the optimizer and the random
number generators; the file's header holds the rest as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.models.trained_model import EpochMetrics

_HEADER = "mnist_ops_checkpoint"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training after a whole number of epochs.

    Attributes:
        config: of the training.
        data_digest: sha256 of both folds, so that a training is not resumed on other data.
        epoch: how many are done.
        step: how many are done.
        batch_size: of the next epoch: smaller than the config's after running out of memory.
        best_step: the validation whose weights are kept so far.
        history: one entry a validation.
        tensors: by name; see the module.
    """

    config: TrainingConfig
    data_digest: str
    epoch: int
    step: int
    batch_size: int
    best_step: int
    history: tuple[EpochMetrics, ...]
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name.`, without that."""
        start = f"{name}."
        return {
            key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)
        }

    def to_bytes(self) -> bytes:
        """The same bytes for equal checkpoints."""
        header = {
            "format": _FORMAT,
            "config": self.config.model_dump(mode="json"),
            "data_digest": self.data_digest,
            "epoch": self.epoch,
            "step": self.step,
            "batch_size": self.batch_size,
            "best_step": self.best_step,
            "history": [asdict(metrics) for metrics in self.history],
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        return safetensors.torch.save(tensors, metadata={_HEADER: json.dumps(header, sort_keys=True)})


def checkpoint_of(data: bytes) -> Checkpoint:
    """Read what `Checkpoint.to_bytes` wrote.

    Raises:
        Permanent: these bytes are no checkpoint, or one of another format.
    """
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(_metadata(data)[_HEADER])
        if header.pop("format") != _FORMAT:
            raise Permanent(f"a checkpoint of another format than {_FORMAT}: start the training anew")
        config = TrainingConfig.model_validate(header.pop("config"))
        history = tuple(EpochMetrics(**metrics) for metrics in header.pop("history"))
        return Checkpoint(config=config, history=history, tensors=tensors, **header)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Permanent(f"these bytes are no checkpoint: {error!r}") from error


def _metadata(data: bytes) -> dict[str, str]:
    """The texts in a safetensors file's header: its length in 8 bytes, then JSON."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


class Checkpoints(Protocol):
    """Where a training's checkpoints are kept."""

    def newest(self) -> Checkpoint | None:
        """The one to go on from; None for a training that begins."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep one."""


class NoCheckpoints:
    """For trainings that are short enough to be repeated."""

    def newest(self) -> Checkpoint | None:
        """None, always."""
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Forget it."""
