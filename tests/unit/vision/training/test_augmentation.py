"""Random augmentation of digits."""

import pytest
import torch

from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.architectures import build_network
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.training.augmentation import augment, augments

NONE = {"rotate": 0.0, "shear": 0.0, "zoom": 0.0, "shift": 0.0, "elastic": 0.0}


def _augmented(examples: Examples, seed: int = 0, **amounts: float) -> torch.Tensor:
    images = torch.tensor(examples.images[:200])
    config = TrainingConfig(**(NONE | amounts))
    return augment(images, config, torch.Generator().manual_seed(seed))


def _plain(examples: Examples) -> torch.Tensor:
    return DigitClassifier(build_network("lenet5")).prepare(torch.tensor(examples.images[:200]))


def test_without_augmentation_digits_are_only_resized(training: Examples) -> None:
    """The same preprocessing applies to training and validation."""
    torch.testing.assert_close(_augmented(training), _plain(training), atol=2e-4, rtol=0)
    assert not augments(TrainingConfig(**NONE))


@pytest.mark.parametrize(
    "change", [{"rotate": 10}, {"shear": 0.2}, {"zoom": 0.2}, {"shift": 2}, {"elastic": 1}]
)
def test_each_change_moves_ink_and_keeps_the_digit(training: Examples, change: dict[str, float]) -> None:
    """The pixels differ, and the amount of ink is the same."""
    changed, plain = _augmented(training, **change), _plain(training)
    assert augments(TrainingConfig(**(NONE | change)))
    assert changed.shape == plain.shape
    moved = (changed - plain).abs().mean(dim=(1, 2, 3))
    assert (moved > 0.005).float().mean() > 0.95
    # In standard deviations, over the batch: a zoom adds ink to some digits and removes it from others.
    assert (changed - plain).mean().abs() < 0.05


def test_each_digit_of_a_batch_is_changed_differently(training: Examples) -> None:
    """Each has its own random numbers."""
    one = Examples(training.images[:1].repeat(10, axis=0), training.labels[:1].repeat(10))
    assert len(torch.unique(_augmented(one, shift=2).flatten(1), dim=0)) == 10


def test_the_same_seed_gives_the_same_changes(training: Examples) -> None:
    """Another seed gives other changes."""
    amounts = {"rotate": 8.0, "elastic": 0.7}
    assert torch.equal(_augmented(training, 1, **amounts), _augmented(training, 1, **amounts))
    assert not torch.equal(_augmented(training, 1, **amounts), _augmented(training, 2, **amounts))


def test_a_shift_moves_a_digit_by_at_most_its_pixels(training: Examples) -> None:
    """The centre of ink moves by up to the shift, in pixels of 28."""

    def centres(pixels: torch.Tensor) -> torch.Tensor:
        ink = (pixels - pixels.amin(dim=(1, 2, 3), keepdim=True)).squeeze(1).sum(1)
        return (ink * torch.arange(32)).sum(1) / ink.sum(1) * 28 / 32

    moved = (centres(_augmented(training, shift=2.0)) - centres(_plain(training))).abs()
    assert moved.max() < 2.1
    assert moved.max() > 1.7
