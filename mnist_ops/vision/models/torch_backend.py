"""Run a trained network in torch: on CUDA to classify, on CPU or CUDA to evaluate and export."""

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

_CUDA_SLICE = 8_192  # digits in each copy to the GPU
_SLICE = 1_024  # digits in each call, so that memory does not grow with the fold


def cuda_forward(
    network: str, weights: bytes, kernel_sizes: KernelSizes | None = None
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None:
    """A network on CUDA as a function from uint8 (N, 28, 28) to logits float32 (N, 10).

    None if torch finds no GPU that it can use.

    Raises:
        Permanent: the weights are not those of this network.
    """
    if not torch.cuda.is_available():
        return None
    return _OverlappedCopies(DigitClassifier(network_from(network, weights, kernel_sizes)).to("cuda").eval())


class _OverlappedCopies:
    """A network on the GPU; the next slice of digits is copied there while one is classified.

    A copy is asynchronous only from page-locked memory, so the slices go through two such buffers in turn.
    Calls from several threads run one after another.
    """

    def __init__(self, model: DigitClassifier) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._copy_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._buffers = [
            torch.empty((_CUDA_SLICE, SIDE, SIDE), dtype=torch.uint8).pin_memory() for _ in range(2)
        ]
        self._copied = [torch.cuda.Event() for _ in self._buffers]  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = []
        # TF32 keeps ten bits of the mantissa, which is too inexact for the golden samples.
        with self._lock, torch.backends.cudnn.flags(allow_tf32=False):
            for number, start in enumerate(range(0, len(images), _CUDA_SLICE)):
                outputs.append(self._model(self._on_gpu(images[start : start + _CUDA_SLICE], number % 2)))
        logits: NDArray[np.float32] = torch.cat(outputs).cpu().numpy()
        return logits

    def _on_gpu(self, images: NDArray[np.uint8], number: int) -> Tensor:
        """Start the copy of a slice; the network's stream waits for it, the CPU does not."""
        self._copied[number].synchronize()  # the buffer's previous contents were copied
        buffer = self._buffers[number][: len(images)]
        buffer.copy_(torch.from_numpy(images))
        with torch.cuda.stream(self._copy_stream):
            digits = buffer.to("cuda", non_blocking=True)
            self._copied[number].record()
        network_stream = torch.cuda.current_stream()
        network_stream.wait_event(self._copied[number])
        # The memory belongs to the copy stream: it must not be reused while the network reads it.
        digits.record_stream(network_stream)
        return digits


def torch_forward(
    network: str, weights: bytes, device: str, kernel_sizes: KernelSizes | None = None
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A network on a device as a function from uint8 (N, 28, 28) to logits float32 (N, 10)."""
    model = DigitClassifier(network_from(network, weights, kernel_sizes)).to(device).eval()

    @torch.inference_mode()
    def forward(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # TF32 keeps ten bits of the mantissa, which is too inexact for the golden samples.
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
