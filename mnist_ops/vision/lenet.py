"""The networks, by name, and the preprocessing that travels inside them.

Source: LeNet-5 of LeCun et al. 1998, section II.B, in its present form: batch normalisation, ReLU and
max pooling instead of tanh and trainable pooling; 61,750 parameters for 10 classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.examples import CLASSES, SIDE

INPUT_SIDE = 32  # pixels: what the network sees
MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, black 0 to white 1


class LeNet5(nn.Module):
    """LeNet-5 with batch normalisation: float32 (N, 1, 32, 32) to logits (N, classes)."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, classes) of normalised pixels (N, 1, 32, 32)."""
        logits: Tensor = self.head(self.features(pixels).flatten(1))
        return logits


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"lenet5": LeNet5}


def build_network(name: str, classes: int = CLASSES) -> nn.Module:
    """A new network by its registered name, with random weights from torch's global generator.

    Raises:
        Permanent: no network has that name.
    """
    if name not in NETWORKS:
        raise Permanent(f"network {name!r} is not one of {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name](classes)


def parameter_count(network: nn.Module) -> int:
    """How many trainable numbers a network has."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def resize_weights(shift: Tensor, zoom: Tensor) -> Tensor:
    """Bilinear interpolation of one axis from 28 to 32 pixels, as matrices.

    Args:
        shift: (N,), pixels by which the picture moves towards higher indices.
        zoom: (N,), the factor by which it grows about its middle.

    Returns:
        float32 (N, 32, 28). Without shift and zoom it is torch's `interpolate(mode="bilinear",
        align_corners=False)`.
    """
    grid = torch.arange(INPUT_SIDE, dtype=torch.float32, device=shift.device)
    middle = (SIDE - 1) / 2
    place = (grid + 0.5) * (SIDE / INPUT_SIDE) - 0.5 - middle
    place = (place - shift[:, None]) / zoom[:, None] + middle
    source = torch.arange(SIDE, dtype=torch.float32, device=shift.device)
    return (1 - (place.clamp(0, SIDE - 1)[..., None] - source).abs()).clamp(min=0)


def prepare(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Digits uint8 (N, 28, 28) as the network sees them: resized, scaled and normalised.

    Args:
        images: uint8 (N, 28, 28).
        rows: resize weights (32, 28) or (N, 32, 28) of the vertical axis.
        columns: the same of the horizontal axis.

    Returns:
        float32 (N, 1, 32, 32).
    """
    resized = rows @ images.float() @ columns.transpose(-1, -2)
    return ((resized / 255 - MEAN) / STD).unsqueeze(1)


class DigitClassifier(nn.Module):
    """A network with its preprocessing inside: uint8 (N, 28, 28) to logits float32 (N, classes)."""

    resize: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        weights = resize_weights(torch.zeros(1), torch.ones(1))[0]
        self.register_buffer("resize", weights, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of digits uint8 (N, 28, 28), ink 255 on 0."""
        logits: Tensor = self.network(prepare(images, self.resize, self.resize))
        return logits
