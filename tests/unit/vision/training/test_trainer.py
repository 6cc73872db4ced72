"""Training of networks, and the values that it takes and returns."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console

from mnist_ops.cli._support.training_progress import training_bar
from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.architectures import build_network
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel
from mnist_ops.vision.models.weights import network_from, weights_of
from mnist_ops.vision.training.callbacks import TrainingCallback, TrainingCallbacks
from mnist_ops.vision.training.checkpoint import Checkpoint
from mnist_ops.vision.training.trainer import LOG_EVERY, pick_device, train

CPU = torch.device("cpu")


def few(examples: Examples, count: int) -> Examples:
    """The first `count` examples."""
    return Examples(examples.images[:count], examples.labels[:count])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("learning_rate", 0),
        ("optimizer", "adamax"),
        ("batch", 7),
        ("momentum", 1),
        ("seed", -1),
    ],
)
def test_a_bad_config_is_refused_with_the_fields_name(field: str, value: object) -> None:
    """The message tells people what to change."""
    with pytest.raises(ValidationError, match=field):
        TrainingConfig(**{field: value})


def test_two_thousand_digits_and_three_epochs_teach_the_network(
    trained: TrainedModel, held_out: Examples
) -> None:
    """It generalises to digits it never saw."""
    logits = torch_forward("lenet5", trained.weights, "cpu")(held_out.images)
    assert (logits.argmax(axis=1) == held_out.labels).mean() > 0.9


def test_the_best_epoch_is_kept(trained: TrainedModel, validation: Examples) -> None:
    """The weights are those of the lowest validation NLL."""
    keys = [metrics.selection_key for metrics in trained.history]
    assert trained.best.epoch == 1 + keys.index(max(keys))
    assert trained.best.validation_nll == min(metrics.validation_nll for metrics in trained.history)
    logits = torch_forward("lenet5", trained.weights, "cpu")(validation.images)
    assert (logits.argmax(axis=1) == validation.labels).mean() == trained.best.validation_accuracy


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "adadelta"])
def test_the_same_training_gives_the_same_weights(
    training: Examples, validation: Examples, optimizer: str
) -> None:
    """Only the seed makes a difference. The process's random state and thread count are unchanged."""
    config = TrainingConfig(epochs=1, optimizer=optimizer, learning_rate=0.02, seed=3)
    before = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (
        train(few(training, 300), few(validation, 100), chosen, CPU)
        for chosen in (config, config, config.model_copy(update={"seed": 4}))
    )
    assert first.weights == again.weights
    assert first.history == again.history
    assert first.weights != other.weights
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_num_threads()


class EventLog(TrainingCallback):
    """Records the events of a training."""

    def __init__(self) -> None:
        self.validations: list[EpochMetrics] = []
        self.steps: list[tuple[int, StepMetrics]] = []
        self.events: list[str] = []

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        self.events.append("start")

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        self.steps.append((step, metrics))

    def on_gradients(self, step: int, model: DigitClassifier) -> None:
        assert all(weights.grad is not None for weights in model.parameters())
        self.events.append("gradients")

    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        self.validations.append(metrics)
        self.events.append("validation")

    def on_end(self, trained: TrainedModel) -> None:
        self.events.append("end")


def test_every_event_reaches_every_callback(training: Examples, validation: Examples) -> None:
    """A progress bar and a tracker follow the same training."""
    log = EventLog()
    config = TrainingConfig(epochs=2, batch_size=2)
    with training_bar(2, Console(file=None, quiet=True)) as bar:
        model = train(few(training, 260), few(validation, 50), config, CPU, TrainingCallbacks([bar, log]))
    assert tuple(log.validations) == model.history
    assert log.events == ["start", "gradients", "validation", "gradients", "validation", "end"]
    assert [step for step, _ in log.steps] == [LOG_EVERY, 130, 2 * LOG_EVERY, 260]
    assert log.steps[-1][1].learning_rate < log.steps[0][1].learning_rate
    assert all(metrics.gradient_norm > 0 < metrics.examples_per_s for _, metrics in log.steps)


def test_validate_every_validates_in_the_middle_of_an_epoch(training: Examples, validation: Examples) -> None:
    """Every 2 steps, and once at the end of the epoch."""
    config = TrainingConfig(epochs=2, batch_size=50, validate_every=2)
    model = train(few(training, 250), few(validation, 50), config, CPU)
    assert [(metrics.epoch, metrics.step) for metrics in model.history] == [
        (1, 2), (1, 4), (1, 5), (2, 6), (2, 8), (2, 10)
    ]  # fmt: skip


def test_a_training_without_improvement_stops_early(training: Examples, validation: Examples) -> None:
    """At the end of the epoch in which `patience` is exhausted."""
    config = TrainingConfig(epochs=50, patience=2, learning_rate=1e-9, averaging=0)
    model = train(few(training, 100), few(validation, 50), config, CPU)
    assert len(model.history) < 50
    assert model.history[-1].epoch == model.best.epoch + 2


def test_running_out_of_memory_halves_the_batch_and_finishes(
    training: Examples, validation: Examples
) -> None:
    """The epoch starts again; the result equals that of a training with the smaller batch size."""

    class SmallMemory(TrainingCallback):
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
            def allocate(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
                self.sizes.append(len(inputs[0]))
                if len(inputs[0]) > 32:
                    raise torch.OutOfMemoryError("no room for more than 32 digits")

            model.network.register_forward_pre_hook(allocate)

    memory = SmallMemory()
    folds = few(training, 200), few(validation, 50)
    model = train(*folds, TrainingConfig(epochs=2, batch_size=128), CPU, memory)
    assert memory.sizes[:3] == [128, 64, 32]
    assert model.config.batch_size == 128
    assert model.weights == train(*folds, TrainingConfig(epochs=2, batch_size=32), CPU).weights


class ShrinkingMemory(TrainingCallback):
    """Memory for batches of 128 digits; half of it after the third step and again after the fourth."""

    def __init__(self) -> None:
        self._limit, self._passes = 128, 0

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        def allocate(network: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if network.training and len(inputs[0]) > self._limit:
                raise torch.OutOfMemoryError
            self._passes += network.training
            if network.training and self._passes in (3, 4):
                self._limit //= 2

        model.network.register_forward_pre_hook(allocate)


class Kept:
    """Keeps saved checkpoints in a list; `newest` is the one given to it."""

    def __init__(self, newest: Checkpoint | None = None) -> None:
        self.all: list[Checkpoint] = []
        self._newest = newest

    def newest(self) -> Checkpoint | None:
        return self._newest

    def save(self, checkpoint: Checkpoint) -> None:
        self.all.append(checkpoint)


def test_running_out_of_memory_twice_in_a_later_epoch_starts_that_epoch_again(
    training: Examples, validation: Examples
) -> None:
    """With the optimizer's state at the start of the epoch: the two failed attempts leave no trace."""
    config, kept = TrainingConfig(epochs=2, batch_size=128), Kept()
    folds = few(training, 256), few(validation, 50)
    shrunk = train(*folds, config, CPU, ShrinkingMemory(), kept)
    assert kept.all[1].batch_size == 32
    halved = dataclasses.replace(kept.all[0], batch_size=32)
    assert shrunk.weights == train(*folds, config, CPU, None, Kept(halved)).weights


def test_one_example_that_does_not_fit_is_an_error(training: Examples, validation: Examples) -> None:
    """A batch of one cannot be halved."""

    class NoMemory(TrainingCallback):
        def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
            def allocate(*_: object) -> None:
                raise torch.OutOfMemoryError

            model.network.register_forward_pre_hook(allocate)

    with pytest.raises(Permanent, match="one example"):
        train(few(training, 20), few(validation, 20), TrainingConfig(batch_size=4), CPU, NoMemory())


def test_bfloat16_trains_weights_of_float32(training: Examples, validation: Examples) -> None:
    """Only the forward pass is in bfloat16, and the accuracy stays close to that of float32."""
    config = TrainingConfig(epochs=2, precision="bfloat16")
    model = train(few(training, 1000), validation, config, CPU)
    weights = network_from("lenet5", model.weights).state_dict().values()
    assert {tensor.dtype for tensor in weights if tensor.is_floating_point()} == {torch.float32}
    float32 = train(few(training, 1000), validation, TrainingConfig(epochs=2, precision="float32"), CPU)
    assert model.best.validation_accuracy == pytest.approx(float32.best.validation_accuracy, abs=0.06)


def test_an_empty_fold_is_refused(training: Examples, validation: Examples) -> None:
    """Without examples there is no gradient and no validation."""
    with pytest.raises(Permanent, match="validation fold is empty"):
        train(training, few(validation, 0), TrainingConfig(), CPU)


def test_a_diverged_training_is_refused(training: Examples, validation: Examples) -> None:
    """A loss that is not finite gives no usable model."""
    config = TrainingConfig(epochs=3, optimizer="sgd", learning_rate=10, momentum=0.99)
    with pytest.raises(Permanent, match="learning_rate"):
        train(few(training, 300), few(validation, 50), config, CPU)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.uint8)),
        (np.zeros((2, 32, 32), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((2, 28, 28), np.uint8), np.full(2, 10, np.uint8)),
    ],
)
def test_arrays_of_another_shape_are_refused_as_examples(
    images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    """They are refused when the examples are made."""
    with pytest.raises(Permanent):
        Examples(images, labels)


def test_weights_survive_a_round_trip_through_bytes(trained: TrainedModel) -> None:
    """Batch statistics included."""
    assert weights_of(network_from("lenet5", trained.weights).state_dict()) == trained.weights


@pytest.mark.parametrize("weights", [b"", b"\x80\x04N.", b"\0" * 100])
def test_other_bytes_are_not_weights(weights: bytes) -> None:
    """A pickle is refused like any other bytes."""
    with pytest.raises(Permanent, match="not weights of lenet5"):
        network_from("lenet5", weights)


def test_weights_of_another_shape_are_refused() -> None:
    """Such as those of a network with other kernel sizes."""
    weights = weights_of(build_network("conv20-50-500", (3, 3)).state_dict())
    with pytest.raises(Permanent, match="not weights of conv20-50-500"):
        network_from("conv20-50-500", weights)


def test_only_known_devices_are_picked() -> None:
    """`auto` picks a device that the machine has."""
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(Permanent, match="tpu"):
        pick_device("tpu")


def test_a_config_cannot_be_changed(trained: TrainedModel) -> None:
    """The bundle records the values that were used."""
    with pytest.raises(ValidationError):
        trained.config.epochs = 5  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        trained.best_step = 1  # type: ignore[misc]


def test_the_classifier_takes_any_number_of_digits() -> None:
    """Also one."""
    model = DigitClassifier(build_network("lenet5")).eval()
    assert model(torch.zeros((1, 28, 28), dtype=torch.uint8)).shape == (1, 10)
