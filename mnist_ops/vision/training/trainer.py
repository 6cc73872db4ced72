"""Train a network on digits that are kept in the device's memory.

The uint8 pixels are moved to the device once. Whole batches are augmented, resized and normalised together,
so no Python runs per example. The state can be saved after every epoch: on CPU, a training that resumes from
it ends with bit for bit the weights of one that was never interrupted.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.schema import Precision, TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.architectures import build_network, parameter_count
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel
from mnist_ops.vision.models.weights import load_state, weights_of
from mnist_ops.vision.training.augmentation import augment, augments
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    load_optimizer,
    optimizer_tensors,
)
from mnist_ops.vision.training.optimization import WeightUpdater

LOG_EVERY = 100  # steps between two calls of `on_steps`: reading a loss waits for the device
_EVALUATION_BATCH = 1024

_log = logging.getLogger(__name__)


def pick_device(wanted: str = "auto") -> torch.device:
    """Return the device to train on.

    Args:
        wanted: `cpu`, `cuda`, or `auto`: CUDA if the machine has it, else CPU.

    Raises:
        Permanent: `cuda` on a machine without CUDA, or an unknown name.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise Permanent(f"device {wanted!r} is not one of auto, cpu, cuda")
    # The CUDA runtime takes seconds to answer, and warns on machines without a GPU.
    present = any(Path("/dev").glob("nvidia[0-9]*")) and torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise Permanent("device cuda: this machine has no CUDA device")
    return torch.device("cuda" if present and wanted != "cpu" else "cpu")


def train(
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    device: torch.device,
    callback: TrainingCallback | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainedModel:
    """Train a network and keep the weights of its best validation: the lowest NLL, then the best accuracy.

    Args:
        training: the train fold, the only one that is augmented.
        validation: the validation fold, the only one that decides which weights are kept.
        config: the hyperparameters; on CPU the same config and data give the same weights.
        device: from `pick_device`.
        callback: called at every event of the training.
        checkpoints: saves the state after every epoch; the training resumes from its newest checkpoint.

    Raises:
        Permanent: a fold is empty, the loss is not finite, a batch of one example does not fit into memory,
            or the checkpoint belongs to another training.
    """
    for fold, examples in (("training", training), ("validation", validation)):
        if not len(examples):
            raise Permanent(f"the {fold} fold is empty")
    callback = callback or TrainingCallback()
    with _isolated_torch_state(config, device):
        run = _TrainingRun(config, (training, validation), device)
        if checkpoints and (checkpoint := checkpoints.newest()):
            run.restore(checkpoint)
            _log.info("training resumes after epoch %d of %d", checkpoint.epoch, config.epochs)
        callback.on_start(run.model, training, validation)
        while not run.finished:
            _train_epoch_in_memory(run, callback)
            if checkpoints:
                checkpoints.save(run.checkpoint())
        trained = run.best_model()
    callback.on_end(trained)
    return trained


@contextmanager
def _isolated_torch_state(config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Set torch's thread count and seed, and restore the process's own ones at the end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _train_epoch_in_memory(run: "_TrainingRun", callback: TrainingCallback) -> None:
    """Train an epoch; out of memory, start it again with batches of half the size."""
    epoch_start = run.checkpoint()
    while True:
        try:
            return run.train_epoch(callback)
        except torch.OutOfMemoryError as error:
            if run.batch_size == 1:
                raise Permanent("a batch of one example does not fit into memory") from error
            smaller = run.batch_size // 2
            _log.warning("out of memory: batch size %d is reduced to %d", run.batch_size, smaller)
        run.restore(epoch_start)
        run.batch_size = smaller
        if run.device.type == "cuda":
            torch.cuda.empty_cache()


class _TrainingRun:
    """The state of one training on the train and the validation fold: model, optimizer, random generators."""

    def __init__(
        self, config: TrainingConfig, folds: tuple[Examples, Examples], device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.model = DigitClassifier(build_network(config.network, config.kernel_sizes)).to(device)
        self._updater = WeightUpdater(self.model, config)
        self.batch_size = config.batch_size
        self._images, self._labels = _on_device(folds[0], device)
        self._held_out = _on_device(folds[1], device)
        self._data_digest = _digest(folds)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._epoch, self._step, self._best_step = 0, 0, 0
        self._history: tuple[EpochMetrics, ...] = ()
        self._best: dict[str, Tensor] = {}
        self._forward = _forward(self.model, config, device)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` validations brought no improvement."""
        patience = self.config.patience
        since_best = sum(metrics.step > self._best_step for metrics in self._history)
        return self._epoch >= self.config.epochs or (patience is not None and since_best >= patience)

    def train_epoch(self, callback: TrainingCallback) -> None:
        """Train the next epoch, then validate."""
        # The loss is summed on the device: reading it at each step would wait for the device.
        total_loss, seen = torch.zeros((), dtype=torch.float64).to(self.device), 0
        throughput = _Throughput()
        order = torch.randperm(len(self._images), generator=self._generator)
        for index in torch.split(order, self.batch_size):
            self.model.train()
            labels = self._labels[index.to(self.device)]
            loss = functional.cross_entropy(
                self._forward(self._pixels(index)), labels, label_smoothing=self.config.label_smoothing
            )
            progress = (self._epoch + seen / len(self._images)) / self.config.epochs
            self._updater.step(loss, self._step, progress)
            self._step, seen = self._step + 1, seen + len(index)
            total_loss += loss.detach() * len(index)
            if self._step % LOG_EVERY == 0 or seen == len(self._images):
                callback.on_steps(self._step, self._step_metrics(loss, throughput.since_last(seen)))
            if self._validates_after(seen):
                self._validate(callback, self._epoch + 1, total_loss / seen)
        callback.on_gradients(self._step, self.model)
        self._epoch += 1
        self._validate(callback, self._epoch, total_loss / seen)

    def _pixels(self, index: Tensor) -> Tensor:
        images = self._images[index.to(self.device)]
        if augments(self.config):
            return augment(images, self.config, self._generator)
        return self.model.prepare(images)

    def _validates_after(self, seen: int) -> bool:
        """Whether to validate after `seen` examples of an epoch; the end of an epoch is always validated."""
        every = self.config.validate_every
        return every is not None and self._step % every == 0 and seen < len(self._images)

    def _step_metrics(self, loss: Tensor, examples_per_s: float) -> StepMetrics:
        gradients = [weights.grad for weights in self.model.parameters() if weights.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        return StepMetrics(float(loss.detach()), self._updater.learning_rate, norm, examples_per_s)

    def _validate(self, callback: TrainingCallback, epoch: int, mean_loss: Tensor) -> None:
        loss = float(mean_loss)
        if not math.isfinite(loss):
            raise Permanent(f"the training loss became {loss}: lower learning_rate")
        average = self._updater.average
        metrics = EpochMetrics(epoch, self._step, loss, *self._evaluate(average))
        if not self._history or metrics.selection_key > max(past.selection_key for past in self._history):
            self._best_step = self._step
            self._best = {name: value.clone() for name, value in average.network.state_dict().items()}
        self._history = (*self._history, metrics)
        callback.on_validation(metrics, average)

    @torch.inference_mode()
    def _evaluate(self, model: DigitClassifier) -> tuple[float, float]:
        """Accuracy (0 to 1) and mean NLL (nats) on the validation fold."""
        model.eval()
        images, labels = self._held_out
        # A batch that fits into memory with gradients also fits without.
        batches = torch.split(images, min(_EVALUATION_BATCH, self.batch_size))
        logits = torch.cat([model(batch) for batch in batches]).double()
        correct = int((logits.argmax(1) == labels).sum())
        return correct / len(labels), float(functional.cross_entropy(logits, labels))

    def best_model(self) -> TrainedModel:
        """The model with the weights of the best validation."""
        parameters = parameter_count(self.model.network)
        return TrainedModel(self.config, weights_of(self._best), self._history, self._best_step, parameters)

    def checkpoint(self) -> Checkpoint:
        """A copy of all state that the next epoch depends on."""
        parts = {
            "model": self.model.network.state_dict(),
            "average": self._updater.average.network.state_dict(),
            "best": self._best,
            "optimizer": optimizer_tensors(self._updater.optimizer),
            "random": self._random_states(),
        }
        return Checkpoint(
            config=self.config,
            data_digest=self._data_digest,
            epoch=self._epoch,
            step=self._step,
            batch_size=self.batch_size,
            best_step=self._best_step,
            history=self._history,
            tensors={
                f"{part}.{name}": value.clone()
                for part, tensors in parts.items()
                for name, value in tensors.items()
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load the state of a checkpoint of this training.

        Raises:
            Permanent: it has another config or other data.
        """
        for what, theirs, ours in (
            ("config", checkpoint.config, self.config),
            ("data", checkpoint.data_digest, self._data_digest),
        ):
            if theirs != ours:
                raise Permanent(f"the checkpoint is of another training: its {what} is {theirs}, not {ours}")
        load_state(self.model.network, checkpoint.part("model"))
        load_state(self._updater.average.network, checkpoint.part("average"))
        load_optimizer(self._updater.optimizer, checkpoint.part("optimizer"))
        self._best = {name: value.to(self.device) for name, value in checkpoint.part("best").items()}
        self._epoch, self._step, self._best_step = checkpoint.epoch, checkpoint.step, checkpoint.best_step
        self._history, self.batch_size = checkpoint.history, checkpoint.batch_size
        states = checkpoint.part("random")
        self._generator.set_state(states["order"])
        torch.set_rng_state(states["cpu"])
        # A training that began on CPU has no CUDA state; the state of the seed is used then.
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)

    def _random_states(self) -> dict[str, Tensor]:
        states = {"order": self._generator.get_state(), "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states


class _Throughput:
    """Measures examples per second."""

    def __init__(self) -> None:
        self._seen, self._at = 0, time.perf_counter()

    def since_last(self, seen: int) -> float:
        """Examples per second since the last call, or since the start; `seen` counts from the start."""
        at = time.perf_counter()
        examples_per_s = (seen - self._seen) / max(at - self._at, 1e-9)
        self._seen, self._at = seen, at
        return examples_per_s


def _forward(
    model: DigitClassifier, config: TrainingConfig, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, compiled and in bfloat16 if the config says so; logits are float32."""
    auto = config.precision is Precision.AUTO and device.type == "cuda"
    bfloat16 = auto or config.precision is Precision.BFLOAT16
    network: Callable[[Tensor], Tensor] = torch.compile(model.network) if config.compile else model.network

    def forward(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits = network(pixels)
        return logits.float()

    return forward


def _on_device(examples: Examples, device: torch.device) -> tuple[Tensor, Tensor]:
    # `torch.tensor` copies: torch warns about read-only arrays, such as those of a Parquet file.
    images = torch.tensor(examples.images).to(device)
    return images, torch.tensor(examples.labels).to(device, torch.long)


def _digest(folds: tuple[Examples, Examples]) -> str:
    digest = hashlib.sha256()
    for fold in folds:
        digest.update(len(fold).to_bytes(8, "little") + fold.images.tobytes() + fold.labels.tobytes())
    return digest.hexdigest()
