"""The classic way to train on MNIST, as tutorials show it: a loader, and transforms picture by picture.

For comparison only. The network is the one that `mnist-ops` trains, so that the ways differ and not the
models. Batch 64, Adadelta with a learning rate of 1, and 0.7 of it after every epoch.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mnist_ops.vision.networks import build_network

BATCH, GAMMA = 64, 0.7
LOOKS = 10  # an epoch, at the test digits


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Digits that are pictures until they are asked for, as torchvision's MNIST gives them."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        self._images, self._labels = images, labels
        self._transform = transforms.Compose(
            [
                transforms.Resize((32, 32)),
                transforms.ToTensor(),
                transforms.Normalize((0.1307,), (0.3081,)),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def seconds_to(
    accuracy: float,
    training: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    test: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    *,
    seed: int = 0,
    max_epochs: int = 14,
) -> tuple[float, list[tuple[float, float]]]:
    """Train until a test accuracy is reached; evaluating is not counted.

    Args:
        accuracy: to reach, 0 to 1.
        training: images uint8 (N, 28, 28) and labels (N,).
        test: the same of the test split.
        seed: of the first weights and the order.
        max_epochs: when to give up.

    Returns:
        Seconds of training (infinite where it was not reached), and at each look the seconds so far and
        the accuracy.
    """
    torch.manual_seed(seed)
    loader = DataLoader(Pictures(*training), batch_size=BATCH, shuffle=True)
    tests = DataLoader(Pictures(*test), batch_size=1000)
    network = build_network("lenet5")
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=GAMMA)
    seconds, curve = 0.0, []
    start = time.perf_counter()
    for _ in range(max_epochs):
        for step, (pixels, labels) in enumerate(loader, start=1):
            network.train()
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(pixels), labels)
            loss.backward()
            optimizer.step()
            if step % (len(loader) // LOOKS) == 0:
                seconds += time.perf_counter() - start
                curve.append((seconds, _accuracy(network, tests)))
                if curve[-1][1] >= accuracy:
                    return seconds, curve
                start = time.perf_counter()
        schedule.step()
    return float("inf"), curve


def _accuracy(network: torch.nn.Module, tests: DataLoader[tuple[torch.Tensor, int]]) -> float:
    network.eval()
    correct = count = 0
    with torch.inference_mode():
        for pixels, labels in tests:
            correct += int((network(pixels).argmax(1) == labels).sum())
            count += len(labels)
    return correct / count
