"""What a trained network says of digits, before there is a bundle of it."""

import numpy as np
from numpy.typing import NDArray

from mnist_ops.vision.data.examples import CLASSES
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.models.trained_model import TrainedModel

_SLICE = 1_024  # digits at once, so that memory does not grow with the fold


def trained_logits(
    model: TrainedModel, images: NDArray[np.uint8], device: str = "cpu"
) -> NDArray[np.float32]:
    """The raw outputs float32 (N, 10) of a trained network for digits uint8 (N, 28, 28)."""
    forward = torch_forward(model.config.network, model.weights, device, model.config.kernel_sizes)
    slices = [forward(images[start : start + _SLICE]) for start in range(0, len(images), _SLICE)]
    return np.concatenate(slices) if slices else np.empty((0, CLASSES), np.float32)
