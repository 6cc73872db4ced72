"""Networks, their preprocessing and their training."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from torch.nn import functional

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.examples import Examples
from mnist_ops.vision.lenet import DigitClassifier, build_network, parameter_count, prepare, resize_weights
from mnist_ops.vision.torch_inference import torch_forward
from mnist_ops.vision.training import EpochMetrics, TrainedModel, pick_device, train
from mnist_ops.vision.training_config import TrainingConfig
from mnist_ops.vision.training_progress import training_bar
from mnist_ops.vision.weights import network_from, weights_of

CPU = torch.device("cpu")


def few(examples: Examples, count: int) -> Examples:
    """The first of some examples."""
    return Examples(examples.images[:count], examples.labels[:count])


def test_lenet5_has_61750_parameters() -> None:
    """The network is the sources' own."""
    assert parameter_count(build_network("lenet5")) == 61_750


def test_the_resize_is_torchs_bilinear_one(training: Examples) -> None:
    """Two matrix products equal `interpolate`, to far less than a grey level."""
    images = torch.tensor(training.images[:50])
    weights = resize_weights(torch.zeros(1), torch.ones(1))[0]
    expected = functional.interpolate(images[:, None].float(), size=(32, 32), mode="bilinear")
    expected = (expected / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(prepare(images, weights, weights), expected, atol=1e-5, rtol=0)


def test_a_shift_moves_the_digit(training: Examples) -> None:
    """Seven eighths of a pixel of the digit are one of the network's."""
    images = torch.tensor(training.images[:5])
    still, moved = (resize_weights(torch.tensor([way]), torch.ones(1)) for way in (0.0, 0.875))
    before, after = prepare(images, still, still), prepare(images, moved, still)
    torch.testing.assert_close(after[:, :, 2:-1], before[:, :, 1:-2])


def test_an_unknown_network_is_named(training: Examples, validation: Examples) -> None:
    """The error lists those there are."""
    with pytest.raises(Permanent, match=r"'resnet'.*lenet5"):
        train(training, validation, TrainingConfig(network="resnet"), CPU)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("learning_rate", 0), ("optimizer", "adam"), ("batch", 7), ("momentum", 1), ("seed", -1)],
)
def test_a_bad_config_is_refused_with_the_fields_name(field: str, value: object) -> None:
    """People see what to change."""
    with pytest.raises(ValidationError, match=field):
        TrainingConfig(**{field: value})


def test_two_thousand_digits_and_three_epochs_teach_the_network(
    trained: TrainedModel, held_out: Examples
) -> None:
    """It generalises to digits it never saw."""
    logits = torch_forward("lenet5", trained.weights, "cpu")(held_out.images)
    assert (logits.argmax(axis=1) == held_out.labels).mean() > 0.9


def test_the_best_epoch_is_kept(trained: TrainedModel, validation: Examples) -> None:
    """The weights are those of the best validation accuracy, the lower NLL deciding among equals."""
    merits = [(epoch.validation_accuracy, -epoch.validation_nll) for epoch in trained.history]
    assert trained.best_epoch == 1 + merits.index(max(merits))
    logits = torch_forward("lenet5", trained.weights, "cpu")(validation.images)
    assert (logits.argmax(axis=1) == validation.labels).mean() == trained.best.validation_accuracy


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_same_training_gives_the_same_weights(
    training: Examples, validation: Examples, optimizer: str
) -> None:
    """Only the seed makes a difference, and the process's own random numbers and threads stay put."""
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


def test_every_epoch_is_told(training: Examples, validation: Examples) -> None:
    """A progress bar or a log line follows the training."""
    told: list[EpochMetrics] = []
    console = Console(file=None, quiet=True)
    with training_bar(2, console) as on_epoch:

        def follow(metrics: EpochMetrics) -> None:
            told.append(metrics)
            on_epoch(metrics)

        model = train(
            few(training, 100),
            few(validation, 50),
            TrainingConfig(epochs=2),
            CPU,
            follow,
        )
    assert tuple(told) == model.history
    assert [metrics.epoch for metrics in told] == [1, 2]


def test_an_empty_fold_is_refused(training: Examples, validation: Examples) -> None:
    """There is nothing to learn from, or to choose by."""
    with pytest.raises(Permanent, match="validation fold is empty"):
        train(training, few(validation, 0), TrainingConfig(), CPU)


def test_a_diverged_training_is_refused(training: Examples, validation: Examples) -> None:
    """A loss that is not finite is no model."""
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
def test_arrays_of_another_shape_are_no_examples(
    images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    """They are refused where they enter."""
    with pytest.raises(Permanent):
        Examples(images, labels)


def test_weights_come_back_from_their_bytes(trained: TrainedModel) -> None:
    """Batch statistics included."""
    assert weights_of(network_from("lenet5", trained.weights)) == trained.weights


@pytest.mark.parametrize("weights", [b"", b"\x80\x04N.", b"\0" * 100])
def test_other_bytes_are_no_weights(weights: bytes) -> None:
    """A pickle is refused like any junk."""
    with pytest.raises(Permanent, match="not weights of lenet5"):
        network_from("lenet5", weights)


def test_weights_of_another_shape_are_refused() -> None:
    """They belong to a network with other classes."""
    with pytest.raises(Permanent, match="not weights of lenet5"):
        network_from("lenet5", weights_of(build_network("lenet5", classes=7)))


def test_only_known_devices_are_picked() -> None:
    """`auto` ends on a device that is there."""
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(Permanent, match="tpu"):
        pick_device("tpu")


def test_a_config_cannot_be_changed(trained: TrainedModel) -> None:
    """What is noted in the bundle is what was used."""
    with pytest.raises(ValidationError):
        trained.config.epochs = 5  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        trained.best_epoch = 1  # type: ignore[misc]


def test_the_classifier_takes_any_number_of_digits() -> None:
    """A batch of one is a batch."""
    model = DigitClassifier(build_network("lenet5")).eval()
    assert model(torch.zeros((1, 28, 28), dtype=torch.uint8)).shape == (1, 10)
