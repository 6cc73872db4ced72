"""A network together with its preprocessing, so that both are exported as one model."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnist_ops.vision.data.examples import SIDE
from mnist_ops.vision.models.architectures import INPUT_SIDE, ConvolutionalNetwork

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, black 0 and white 1


def resize_weights() -> Tensor:
    """Bilinear interpolation of one axis from 28 to 32 pixels, as a matrix float32 (32, 28)."""
    pixels = torch.eye(SIDE)[:, None]
    resized = functional.interpolate(pixels, size=INPUT_SIDE, mode="linear", align_corners=False)
    return resized[:, 0].T.contiguous()


def normalise(grey: Tensor) -> Tensor:
    """Normalise grey levels 0 to 255, (N, 32, 32), to the network's input float32 (N, 1, 32, 32)."""
    return ((grey / 255 - MEAN) / STD).unsqueeze(1)


class DigitClassifier(nn.Module):
    """A network with its preprocessing inside: uint8 (N, 28, 28) to logits float32 (N, 10)."""

    resize: Tensor

    def __init__(self, network: ConvolutionalNetwork) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("resize", resize_weights(), persistent=False)

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise digits uint8 (N, 28, 28), ink 255 on 0, to float32 (N, 1, 32, 32)."""
        return normalise(self.resize @ images.float() @ self.resize.T)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10) of digits uint8 (N, 28, 28), ink 255 on 0."""
        logits: Tensor = self.network(self.prepare(images))
        return logits
