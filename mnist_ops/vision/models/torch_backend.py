"""Run a trained network in torch: on CUDA for classifying, on either device for measuring and exporting."""

import threading
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_ops.vision.config.networks import KernelSizes
from mnist_ops.vision.data.examples import CLASSES, SIDE
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.models.weights import network_from

SLICE = 8192  # digits on their way to the card at once
_SLICE = 1_024  # digits at once, so that memory does not grow with the fold


def cuda_forward(
    network: str, weights: bytes, kernel_sizes: KernelSizes | None = None
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None:
    """A network with its weights on the card: uint8 (N, 28, 28) to logits float32 (N, 10).

    None where torch finds no card that it can use.

    Raises:
        Permanent: the weights are not those of the network.
    """
    if not torch.cuda.is_available():
        return None
    return _Overlapped(DigitClassifier(network_from(network, weights, kernel_sizes)).to("cuda").eval())


class _Overlapped:
    """A network on the card, to which the next digits travel while the present ones are classified.

    Only page-locked memory is copied without the processor waiting, so digits go through two such buffers.
    Calls from several threads take turns.
    """

    def __init__(self, model: DigitClassifier) -> None:
        self._model = model
        self._turn = threading.Lock()
        self._copying = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._buffers = [torch.empty((SLICE, SIDE, SIDE), dtype=torch.uint8).pin_memory() for _ in range(2)]
        self._copied = [
            torch.cuda.Event()  # type: ignore[no-untyped-call]
            for _ in self._buffers
        ]

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = []
        # TF32 keeps ten bits of a float's mantissa: too few to agree with the golden samples.
        with self._turn, torch.backends.cudnn.flags(allow_tf32=False):
            for turn, start in enumerate(range(0, len(images), SLICE)):
                answers.append(self._model(self._on_card(images[start : start + SLICE], turn % 2)))
        logits: NDArray[np.float32] = torch.cat(answers).cpu().numpy()
        return logits

    def _on_card(self, images: NDArray[np.uint8], turn: int) -> Tensor:
        """Start the copy of a slice; the network's stream waits for it, the processor does not."""
        self._copied[turn].synchronize()  # the buffer's former contents have left
        buffer = self._buffers[turn][: len(images)]
        buffer.copy_(torch.from_numpy(images))
        with torch.cuda.stream(self._copying):
            digits = buffer.to("cuda", non_blocking=True)
            self._copied[turn].record()
        present = torch.cuda.current_stream()
        present.wait_event(self._copied[turn])
        # Its memory belongs to the copying stream and must not be given away while the network reads it.
        digits.record_stream(present)
        return digits


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


def trained_logits(
    model: TrainedModel, images: NDArray[np.uint8], device: str = "cpu"
) -> NDArray[np.float32]:
    """Logits float32 (N, 10) of a trained network, before there is a bundle, for uint8 (N, 28, 28)."""
    forward = torch_forward(model.config.network, model.weights, device, model.config.kernel_sizes)
    slices = [forward(images[start : start + _SLICE]) for start in range(0, len(images), _SLICE)]
    return np.concatenate(slices) if slices else np.empty((0, CLASSES), np.float32)
