"""Train on MNIST as tutorials do: a DataLoader, and transforms image by image. For comparison only.

Batch 64, Adadelta with a learning rate of 1, and 0.7 of it after every epoch. It trains
either the network that such scripts usually have, 32 and 64 kernels with dropout on 28x28 pixels, or the
LeNet-5 that `mnist-ops` trains, so that only the training code differs and not the model.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mnist_ops.vision.models.architectures import build_network

BATCH, GAMMA = 64, 0.7
EVALUATIONS = 10  # of the test digits, per epoch


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Digits that are transformed one by one when they are read, as in torchvision's MNIST."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], side: int) -> None:
        self._images, self._labels = images, labels
        resize = [] if side == images.shape[1] else [transforms.Resize((side, side))]
        self._transform = transforms.Compose(
            [*resize, transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), int(self._labels[index])


def usual_network() -> nn.Module:
    """The usual network of the classic script."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
    )


def seconds_to(
    accuracy: float,
    training: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    test: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    *,
    lenet5: bool,
    seed: int = 0,
    max_epochs: int = 14,
) -> tuple[float, list[tuple[float, float]]]:
    """Train until a test accuracy is reached; evaluating is not counted.

    Args:
        accuracy: the accuracy to reach, 0 to 1.
        training: images uint8 (N, 28, 28) and labels (N,).
        test: the same for the test split.
        lenet5: train the project's LeNet-5 on 32x32 pixels instead of the usual network.
        seed: the seed of the initial weights and of the order.
        max_epochs: epochs after which it stops.

    Returns:
        Seconds of training (infinite if the accuracy was not reached), and the seconds and the accuracy at
        each evaluation.
    """
    torch.manual_seed(seed)
    side = 32 if lenet5 else 28
    loader = DataLoader(Images(*training, side), batch_size=BATCH, shuffle=True)
    tests = DataLoader(Images(*test, side), batch_size=1000)
    network = build_network("lenet5") if lenet5 else usual_network()
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
            if step % (len(loader) // EVALUATIONS) == 0:
                seconds += time.perf_counter() - start
                curve.append((seconds, _accuracy(network, tests)))
                if curve[-1][1] >= accuracy:
                    return seconds, curve
                start = time.perf_counter()
        schedule.step()
    return float("inf"), curve


def _accuracy(network: nn.Module, tests: DataLoader[tuple[torch.Tensor, int]]) -> float:
    network.eval()
    correct = count = 0
    with torch.inference_mode():
        for pixels, labels in tests:
            correct += int((network(pixels).argmax(1) == labels).sum())
            count += len(labels)
    return correct / count
