"""A training that was killed resumes from its last checkpoint and gives the same result."""

import pytest
import torch

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.checkpoint import Checkpoint, checkpoint_of
from mnist_ops.vision.training.trainer import train

CPU = torch.device("cpu")
FEW_STEPS = {"epochs": 3, "batch_size": 40}


class Kept:
    """Keeps checkpoints as bytes, as a killed process leaves them."""

    def __init__(self) -> None:
        self.all: list[bytes] = []

    def newest(self) -> Checkpoint | None:
        return checkpoint_of(self.all[-1]) if self.all else None

    def save(self, checkpoint: Checkpoint) -> None:
        self.all.append(checkpoint.to_bytes())


class Killed(Exception):
    """The process ends here."""


class KillAt(TrainingCallback):
    """Raises `Killed` at the n-th forward pass of the training."""

    def __init__(self, step: int) -> None:
        self._left = step

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        def count(module: torch.nn.Module, _: object) -> None:
            self._left -= module.training
            if self._left < 0:
                raise Killed

        model.network.register_forward_pre_hook(count)


@pytest.fixture(scope="module")
def folds(training: Examples, validation: Examples) -> tuple[Examples, Examples]:
    """400 digits to train on: 10 steps an epoch, or 20 with half the batch size."""
    return (
        Examples(training.images[:400], training.labels[:400]),
        Examples(validation.images[:100], validation.labels[:100]),
    )


CONFIGS = {
    "adamw": {},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "adadelta, steps": {"optimizer": "adadelta", "schedule": "step", "validate_every": 3},
    "dropout": {"network": "pytorch-example", "learning_rate": 0.002},
}


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("step", [3, 14, 29])
def test_a_killed_training_ends_with_the_same_weights(
    folds: tuple[Examples, Examples], options: dict[str, object], step: int
) -> None:
    """Bit for bit, wherever in an epoch it was killed, and with the same history."""
    config = TrainingConfig(**FEW_STEPS, **options)
    whole = train(*folds, config, CPU)
    kept = Kept()
    with pytest.raises(Killed):
        train(*folds, config, CPU, KillAt(step), kept)
    assert len(kept.all) == step // 10
    resumed = train(*folds, config, CPU, checkpoints=kept)
    assert resumed.weights == whole.weights
    assert resumed.history == whole.history


def test_a_finished_training_is_not_trained_again(folds: tuple[Examples, Examples]) -> None:
    """A retry after the last checkpoint returns the result without a step."""
    kept, config = Kept(), TrainingConfig(**FEW_STEPS)
    whole = train(*folds, config, CPU, checkpoints=kept)
    assert train(*folds, config, CPU, KillAt(0), kept).weights == whole.weights


def test_a_smaller_batch_stays_small_after_a_kill(folds: tuple[Examples, Examples]) -> None:
    """The reduced batch size is part of the state."""

    class SmallMemory(TrainingCallback):
        def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
            def allocate(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
                if len(inputs[0]) > 20:
                    raise torch.OutOfMemoryError

            model.network.register_forward_pre_hook(allocate)

    kept = Kept()
    train(*folds, TrainingConfig(**FEW_STEPS), CPU, SmallMemory(), kept)
    assert [checkpoint_of(data).batch_size for data in kept.all] == [20, 20, 20]


@pytest.mark.parametrize("other", [{"seed": 1}, {"epochs": 4}])
def test_a_checkpoint_of_another_config_is_refused(
    folds: tuple[Examples, Examples], other: dict[str, int]
) -> None:
    """Its state does not fit the new hyperparameters."""
    kept = Kept()
    train(*folds, TrainingConfig(**FEW_STEPS), CPU, checkpoints=kept)
    with pytest.raises(Permanent, match="another training: its config"):
        train(*folds, TrainingConfig(**(FEW_STEPS | other)), CPU, checkpoints=kept)


def test_a_checkpoint_of_other_data_is_refused(folds: tuple[Examples, Examples]) -> None:
    """The weights would come from both data sets, and no record would say so."""
    kept, config = Kept(), TrainingConfig(**FEW_STEPS)
    train(*folds, config, CPU, checkpoints=kept)
    with pytest.raises(Permanent, match="another training: its data"):
        train(folds[0], folds[0], config, CPU, checkpoints=kept)


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", b"\0" * 100])
def test_other_bytes_are_not_a_checkpoint(data: bytes) -> None:
    """A pickle is refused like any other bytes."""
    with pytest.raises(Permanent, match="not a checkpoint"):
        checkpoint_of(data)


def test_a_checkpoint_survives_a_round_trip_through_bytes(folds: tuple[Examples, Examples]) -> None:
    """No tensor and no field is lost."""
    kept = Kept()
    train(*folds, TrainingConfig(**FEW_STEPS), CPU, checkpoints=kept)
    assert checkpoint_of(kept.all[1]).to_bytes() == kept.all[1]
