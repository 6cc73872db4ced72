"""Run a trained network in torch: on CUDA for classifying, on either device for measuring and exporting."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_ops.vision.classifier import DigitClassifier
from mnist_ops.vision.network_names import KernelSizes
from mnist_ops.vision.weights import network_from


def cuda_forward(
    network: str, weights: bytes, kernel_sizes: KernelSizes | None = None
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None:
    """A network with its weights on the card: uint8 (N, 28, 28) to logits float32 (N, 10).

    None where torch finds no card that it can use.

    Raises:
        Permanent: the weights are not those of the network.
    """
    return torch_forward(network, weights, "cuda", kernel_sizes) if torch.cuda.is_available() else None


def torch_forward(
    network: str, weights: bytes, device: str, kernel_sizes: KernelSizes | None = None
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A network with its weights on a device: uint8 (N, 28, 28) to logits float32 (N, 10)."""
    model = DigitClassifier(network_from(network, weights, kernel_sizes)).to(device).eval()

    @torch.inference_mode()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # TF32 keeps ten bits of a float's mantissa: too few to agree with the golden samples.
        with torch.backends.cudnn.flags(allow_tf32=False):
            logits: NDArray[np.float32] = model(torch.tensor(images, device=device)).cpu().numpy()
        return logits

    return forward
