"""Checkpoints: the whole state of a training between two epochs, in one safetensors file (no pickle).

The tensors are those of the model, of the average of its weights, of the best average so far, of the
optimizer and of the random number generators. The header of the file holds the rest as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.models.trained_model import EpochMetrics

_HEADER = "mnist_ops_checkpoint"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a training after a whole number of epochs.

    Attributes:
        data_digest: sha256 of both folds, so that a training does not resume on other data.
        epoch: epochs done.
        step: steps done.
        batch_size: of the next epoch; smaller than the config's after a batch did not fit into memory.
        best_step: the step of the best validation so far.
        history: one entry per validation.
        tensors: `<part>.<name>` to tensor; the parts are model, average, best, optimizer and random.
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
        """The tensors of one part, named without the part's prefix."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)
        }

    def to_bytes(self) -> bytes:
        """Serialise to safetensors; equal checkpoints give equal bytes."""
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
    """Read the bytes that `Checkpoint.to_bytes` wrote.

    Raises:
        Permanent: the bytes are not a checkpoint, or have another format.
    """
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(_metadata(data)[_HEADER])
        if header.pop("format") != _FORMAT:
            raise Permanent(f"the checkpoint's format is not {_FORMAT}: start the training again")
        config = TrainingConfig.model_validate(header.pop("config"))
        history = tuple(EpochMetrics(**metrics) for metrics in header.pop("history"))
        return Checkpoint(config=config, history=history, tensors=tensors, **header)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Permanent(f"these bytes are not a checkpoint: {error!r}") from error


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: 8 bytes of length (little-endian), then a JSON header."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as `<index of the parameter>.<name>` to tensor.

    Its options, such as the learning rate, are not included: they come from the config.
    """
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        # Cloned: the optimizer updates its tensors in place, and the checkpoint may be restored once more.
        state.setdefault(int(index), {})[name] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class Checkpoints(Protocol):
    """Stores the checkpoints of one training."""

    def newest(self) -> Checkpoint | None:
        """The checkpoint to resume from; None for a new training."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint."""
