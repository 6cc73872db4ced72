"""Random augmentation of digits: whole batches at once, on the device that holds them.

Source of the elastic displacement: P. Simard, D. Steinkraus, J. Platt, "Best practices for
convolutional neural networks applied to visual document analysis", 2003; here the smooth field is a
bicubic surface through a coarse grid of random displacements, which needs no Gaussian filter.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import SIDE
from mnist_ops.vision.models.architectures import INPUT_SIDE
from mnist_ops.vision.models.digit_classifier import normalise

_HALF = SIDE / 2  # pixels per unit of torch's sampling grid
_KNOTS = 6  # points per side of the coarse grid: about six pixels apart


def augments(config: TrainingConfig) -> bool:
    """Return whether a config has any augmentation."""
    return any((config.rotate, config.shear, config.zoom, config.shift, config.elastic))


def augment(images: Tensor, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    """Augment each digit at random, then resize and normalise it for the network.

    Args:
        images: uint8 (N, 28, 28).
        config: the limits of each change.
        generator: a generator on the CPU, so that every device gets the same random numbers.

    Returns:
        float32 (N, 1, 32, 32).
    """
    count, size = len(images), (INPUT_SIDE, INPUT_SIDE)
    transforms = _affine(config, 2 * torch.rand((6, count), generator=generator) - 1)
    grid = functional.affine_grid(transforms.to(images.device), [count, 1, *size], align_corners=False)
    if config.elastic:
        knots = torch.randn((count, 2, _KNOTS, _KNOTS), generator=generator) * (config.elastic / _HALF)
        field = functional.interpolate(knots.to(images.device), size=size, mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    augmented = functional.grid_sample(
        images.float().unsqueeze(1), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return normalise(augmented.squeeze(1))


def _affine(config: TrainingConfig, random: Tensor) -> Tensor:
    """Matrices (N, 2, 3) from output to input coordinates, for random numbers (6, N) from -1 to 1."""
    rotation, shear, width, height, right, down = random
    angle = rotation * math.radians(config.rotate)
    cosine, sine = angle.cos(), angle.sin()
    width, height = (1 / (1 + config.zoom * share) for share in (width, height))
    right, down = (config.shift / _HALF * share for share in (right, down))
    x_row = torch.stack([cosine * width, (shear * config.shear - sine) * width, right], dim=1)
    y_row = torch.stack([sine * height, cosine * height, down], dim=1)
    return torch.stack([x_row, y_row], dim=1)
