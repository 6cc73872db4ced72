"""Train a network on digits that stay on the device.

The uint8 pixels are moved there once, and whole batches are resized and normalised by two matrix
products, so that no Python runs for a single example.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.examples import Examples
from mnist_ops.vision.lenet import DigitClassifier, build_network, prepare, resize_weights
from mnist_ops.vision.training_config import Optimizer, TrainingConfig
from mnist_ops.vision.weights import weights_of

_EVALUATION_BATCH = 1024


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """What one epoch gave.

    Attributes:
        epoch: from 1.
        train_loss: mean over the epoch's examples.
        validation_accuracy: share of the validation fold, 0 to 1.
        validation_nll: mean negative log-likelihood, nats.
    """

    epoch: int
    train_loss: float
    validation_accuracy: float
    validation_nll: float


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained network.

    Attributes:
        config: what it was trained with.
        weights: the state of the best epoch, in the safetensors format.
        history: one entry an epoch.
        best_epoch: the epoch kept, from 1.
    """

    config: TrainingConfig
    weights: bytes
    history: tuple[EpochMetrics, ...]
    best_epoch: int

    @property
    def best(self) -> EpochMetrics:
        """The metrics of the epoch kept."""
        return self.history[self.best_epoch - 1]


def pick_device(wanted: str = "auto") -> torch.device:
    """The device to train on: `cpu`, `cuda`, or with `auto` CUDA when there is one.

    Raises:
        Permanent: CUDA is asked for and there is none, or the name is another.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise Permanent(f"device {wanted!r} is not one of auto, cpu, cuda")
    # Asking CUDA's runtime takes seconds and warns on machines that have no card.
    present = any(Path("/dev").glob("nvidia[0-9]*")) and torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise Permanent("device cuda is asked for and this machine has none")
    return torch.device("cuda" if present and wanted != "cpu" else "cpu")


def train(
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    device: torch.device,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
) -> TrainedModel:
    """Train and keep the epoch with the best validation accuracy; among equals the lowest NLL.

    Args:
        training: the train fold.
        validation: the validation fold; it alone decides which epoch is kept.
        config: the hyperparameters; on CPU the same config and data give the same weights.
        device: from `pick_device`.
        on_epoch: called after each epoch, for a progress bar or a log line.

    Raises:
        Permanent: a fold is empty, no network has that name, or the loss is no longer finite.
    """
    for fold, examples in (("training", training), ("validation", validation)):
        if not len(examples):
            raise Permanent(f"the {fold} fold is empty")
    with _threads(config.threads):
        return _train(training, validation, config, device, on_epoch or _unwatched)


def _train(
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    device: torch.device,
    on_epoch: Callable[[EpochMetrics], None],
) -> TrainedModel:
    # The first weights come from torch's global generator, which is put back as it was.
    with torch.random.fork_rng(devices=[], enabled=True):
        torch.manual_seed(config.seed)
        model = DigitClassifier(build_network(config.network)).to(device)
    images, labels = _resident(training, device)
    held_out = _resident(validation, device)
    descent = _Descent(model, config, math.ceil(len(training) / config.batch_size))
    generator = torch.Generator().manual_seed(config.seed)
    history: list[EpochMetrics] = []
    best_epoch, weights = 0, b""
    for epoch in range(1, config.epochs + 1):
        loss = _train_epoch(model, _batches(images, labels, config, generator), descent)
        metrics = EpochMetrics(epoch, loss, *_validate(descent.average, *held_out))
        history.append(metrics)
        if not best_epoch or _merit(metrics) > _merit(history[best_epoch - 1]):
            best_epoch, weights = epoch, weights_of(descent.average.network)
        on_epoch(metrics)
    return TrainedModel(config, weights, tuple(history), best_epoch)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch's threads on CPU; the number belongs to the process, so it is put back."""
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def _unwatched(metrics: EpochMetrics) -> None:
    """Nobody watches."""


class _Descent:
    """The optimizer, its one-cycle learning rate, and the running average of the weights.

    Sources: L. N. Smith and N. Topin, "Super-convergence", 2018; B. T. Polyak and A. B. Juditsky,
    "Acceleration of stochastic approximation by averaging", 1992.
    """

    def __init__(self, model: DigitClassifier, config: TrainingConfig, steps_an_epoch: int) -> None:
        self.config = config
        self.average = deepcopy(model)
        self._pair = (_state(self.average), _state(model))
        self._optimizer = _optimizer(model, config)
        self._rate = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            max_lr=config.learning_rate,
            total_steps=config.epochs * steps_an_epoch,
            cycle_momentum=False,  # with it, the momentum of the config would be overwritten
        )

    def step(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._rate.step()
        average, trained = self._pair
        with torch.no_grad():
            torch._foreach_lerp_(average, trained, 1 - self.config.averaging)


def _state(model: DigitClassifier) -> list[Tensor]:
    """The weights and batch statistics themselves, not copies of them."""
    return [tensor for tensor in model.network.state_dict().values() if tensor.is_floating_point()]


def _optimizer(model: DigitClassifier, config: TrainingConfig) -> torch.optim.Optimizer:
    weights = model.network.parameters()
    if config.optimizer is Optimizer.ADAMW:
        return torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        weights,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )


def _resident(examples: Examples, device: torch.device) -> tuple[Tensor, Tensor]:
    # Copied: torch warns about arrays that it must not write to, such as those of a Parquet file.
    images = torch.tensor(examples.images).to(device)
    return images, torch.tensor(examples.labels).to(device, torch.long)


def _batches(
    images: Tensor, labels: Tensor, config: TrainingConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels (N, 1, 32, 32) and labels (N,), in a random order, each digit moved at random."""
    order = torch.randperm(len(images), generator=generator)
    for chosen in torch.split(order, config.batch_size):
        # All random numbers come from one generator on the CPU: the same on every device.
        spread = 2 * torch.rand((3, len(chosen)), generator=generator) - 1
        down, right, size = spread.to(images.device)
        zoom = 1 + config.zoom * size
        rows, columns = (resize_weights(config.shift * way, zoom) for way in (down, right))
        index = chosen.to(images.device)
        yield prepare(images[index], rows, columns), labels[index]


def _train_epoch(
    model: DigitClassifier, batches: Iterator[tuple[Tensor, Tensor]], descent: _Descent
) -> float:
    model.train()
    total, count = torch.zeros((), dtype=torch.float64), 0
    total = total.to(model.resize.device)  # summed there: reading each loss would wait for the device
    for pixels, labels in batches:
        loss = functional.cross_entropy(
            model.network(pixels), labels, label_smoothing=descent.config.label_smoothing
        )
        descent.step(loss)
        total += loss.detach() * len(labels)
        count += len(labels)
    mean = float(total) / count
    if not math.isfinite(mean):
        raise Permanent(f"the training loss became {mean}: lower learning_rate")
    return mean


@torch.inference_mode()
def _validate(model: DigitClassifier, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy and mean NLL."""
    model.eval()
    logits = torch.cat([model(batch) for batch in torch.split(images, _EVALUATION_BATCH)]).double()
    correct = int((logits.argmax(1) == labels).sum())
    return correct / len(labels), float(functional.cross_entropy(logits, labels))


def _merit(metrics: EpochMetrics) -> tuple[float, float]:
    return metrics.validation_accuracy, -metrics.validation_nll
