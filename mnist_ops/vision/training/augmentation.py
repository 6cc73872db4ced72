"""Random changes to digits while training: whole batches at once, on the device they lie on.

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

_HALF = SIDE / 2  # pixels to a unit of torch's sampling grid
_KNOTS = 6  # of the coarse grid, a side: about six pixels apart


def augments(config: TrainingConfig) -> bool:
    """Whether a config asks for any random change."""
    return any((config.rotate, config.shear, config.zoom, config.shift, config.elastic))


def augment(images: Tensor, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    """Change each digit at random, and resize and normalise it as the network sees it.

    Args:
        images: uint8 (N, 28, 28).
        config: how much of what.
        generator: on the CPU, whatever the device: the same random numbers on every device.

    Returns:
        float32 (N, 1, 32, 32).
    """
    count, size = len(images), (INPUT_SIDE, INPUT_SIDE)
    moves = _affine(config, 2 * torch.rand((6, count), generator=generator) - 1)
    grid = functional.affine_grid(moves.to(images.device), [count, 1, *size], align_corners=False)
    if config.elastic:
        knots = torch.randn((count, 2, _KNOTS, _KNOTS), generator=generator) * (config.elastic / _HALF)
        field = functional.interpolate(knots.to(images.device), size=size, mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    changed = functional.grid_sample(
        images.float().unsqueeze(1), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return normalise(changed.squeeze(1))


def _affine(config: TrainingConfig, spread: Tensor) -> Tensor:
    """Where pixels come from, as matrices (N, 2, 3), for random numbers (6, N) from -1 to 1."""
    turn, slant, wide, high, right, down = spread
    angle = turn * math.radians(config.rotate)
    cosine, sine = angle.cos(), angle.sin()
    wide, high = (1 / (1 + config.zoom * way) for way in (wide, high))
    right, down = (config.shift / _HALF * way for way in (right, down))
    across = torch.stack([cosine * wide, (slant * config.shear - sine) * wide, right], dim=1)
    along = torch.stack([sine * high, cosine * high, down], dim=1)
    return torch.stack([across, along], dim=1)
