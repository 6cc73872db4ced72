"""The networks by name, from normalised pixels float32 (N, 1, 32, 32) to logits (N, 10).

Sources: `lenet5` is LeNet-5 of LeCun et al. 1998, section II.B, in its modern form (batch
normalisation, ReLU and max pooling instead of tanh and trainable pooling; 61,750 parameters).
`conv20-50-500` has the sizes of Caffe's LeNet example (20 and 50 kernels, 500 hidden units); its kernel
sizes can be chosen. `mnistnet` (6 and 16 kernels, 120-84-10, no normalisation) and
`pytorch-example` (32 and 64 kernels of 3 by 3, dropout) have the sizes that many tutorials train.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnist_ops.vision.config.networks import KernelSizes, kernel_sizes_of
from mnist_ops.vision.data.examples import CLASSES

INPUT_SIDE = 32  # pixels; the side of the networks' input


class ConvolutionalNetwork(nn.Module):
    """Convolutions, then fully connected layers; the first of these is sized to the features.

    Args:
        features: float32 (N, 1, 32, 32) to (N, channels, height, width).
        head: makes the fully connected layers for a number of features; the last layer is linear, and its
            input is the picture's embedding.
    """

    def __init__(self, features: nn.Sequential, head: Callable[[int], nn.Sequential]) -> None:
        super().__init__()
        self.features = features
        self.head = head(_feature_count(features))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, 10) of normalised pixels (N, 1, 32, 32)."""
        logits: Tensor = self.head(self.features(pixels).flatten(1))
        return logits

    def embed(self, pixels: Tensor) -> Tensor:
        """The embeddings (N, D), which are the last layer's input, of normalised pixels (N, 1, 32, 32)."""
        embedding: Tensor = self.head[:-1](self.features(pixels).flatten(1))
        return embedding


def _feature_count(features: nn.Sequential) -> int:
    with torch.no_grad():
        # In evaluation mode, so that the moving averages of batch normalisation do not change.
        extracted: Tensor = features.eval()(torch.zeros(1, 1, INPUT_SIDE, INPUT_SIDE))
    features.train()
    return extracted.numel()


def _lenet5(_: KernelSizes) -> ConvolutionalNetwork:
    # Pooling before ReLU gives the same result as after it, with a quarter of the work for ReLU.
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU(),
    )  # fmt: skip
    return ConvolutionalNetwork(features, _head_120_84)


def _conv20_50_500(kernel_sizes: KernelSizes) -> ConvolutionalNetwork:
    first, second = kernel_sizes
    features = nn.Sequential(
        nn.Conv2d(1, 20, first), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(20, 50, second), nn.MaxPool2d(2), nn.ReLU(),
    )  # fmt: skip
    return ConvolutionalNetwork(
        features, lambda size: nn.Sequential(nn.Linear(size, 500), nn.ReLU(), nn.Linear(500, CLASSES))
    )


def _mnistnet(_: KernelSizes) -> ConvolutionalNetwork:
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.ReLU()
    )
    return ConvolutionalNetwork(features, _head_120_84)


def _head_120_84(size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, CLASSES)
    )


def _pytorch_example(_: KernelSizes) -> ConvolutionalNetwork:
    return ConvolutionalNetwork(
        nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.25)
        ),
        lambda size: nn.Sequential(nn.Linear(size, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, CLASSES)),
    )


_BUILDERS = {
    "lenet5": _lenet5,
    "conv20-50-500": _conv20_50_500,
    "mnistnet": _mnistnet,
    "pytorch-example": _pytorch_example,
}


def build_network(name: str, kernel_sizes: KernelSizes | None = None) -> ConvolutionalNetwork:
    """Build a network by its name, with random weights from torch's global generator.

    Args:
        name: one of `NETWORKS`.
        kernel_sizes: sides of the two convolutions' kernels, in pixels; None for the network's default.

    Raises:
        Permanent: no network has that name, or its kernel sizes cannot be chosen.
    """
    sizes = kernel_sizes_of(name, kernel_sizes)
    return _BUILDERS[name](sizes)


def parameter_count(network: nn.Module) -> int:
    """The number of trainable parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
