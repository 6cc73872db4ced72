"""Train a network on digits that stay on the device.

The uint8 pixels are moved there once, and whole batches are changed, resized and normalised together,
so that no Python runs for a single example. After every epoch the whole state can be kept; a training
that goes on from there gives, on CPU, bit for bit the weights of one that was never interrupted.
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
from mnist_ops.vision.models.architectures import build_network
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel
from mnist_ops.vision.models.weights import load_state, weights_of
from mnist_ops.vision.training.augmentation import augment, augments
from mnist_ops.vision.training.callbacks import Watcher
from mnist_ops.vision.training.checkpoint import Checkpoint, Checkpoints, NoCheckpoints
from mnist_ops.vision.training.optimization import Descent

LOG_EVERY = 100  # steps between two `on_steps`: reading a loss waits for the device
_EVALUATION_BATCH = 1024

_log = logging.getLogger(__name__)


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
    watcher: Watcher | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainedModel:
    """Train and keep the weights that validate best: by NLL, and among equals by accuracy.

    Args:
        training: the train fold; it alone is augmented.
        validation: the validation fold; it alone decides which weights are kept.
        config: the hyperparameters; on CPU the same config and data give the same weights.
        device: from `pick_device`.
        watcher: is told of every step.
        checkpoints: where the state is kept after every epoch, and found again.

    Raises:
        Permanent: a fold is empty, the loss is no longer finite, one example does not fit into memory,
            or the checkpoint is of another training.
    """
    for fold, examples in (("training", training), ("validation", validation)):
        if not len(examples):
            raise Permanent(f"the {fold} fold is empty")
    watcher, checkpoints = watcher or Watcher(), checkpoints or NoCheckpoints()
    with _of_its_own(config, device):
        run = _Run(config, (training, validation), device)
        if former := checkpoints.newest():
            run.resume(former)
            _log.info("going on after epoch %d of %d", former.epoch, config.epochs)
        watcher.on_start(run.model, training, validation)
        while not run.over:
            _fitting(run, watcher)
            checkpoints.save(run.checkpoint())
        trained = run.trained()
    watcher.on_end(trained)
    return trained


@contextmanager
def _of_its_own(config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Torch's threads and global random numbers belong to the process, so they are put back."""
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


def _fitting(run: "_Run", watcher: Watcher) -> None:
    """Train an epoch; where it does not fit into memory, again from its start in smaller batches."""
    start = run.checkpoint()
    while True:
        try:
            return run.train_epoch(watcher)
        except torch.OutOfMemoryError as error:
            if run.batch_size == 1:
                raise Permanent("a batch of one example does not fit into memory") from error
            smaller = run.batch_size // 2
            _log.warning("out of memory: from batches of %d to %d", run.batch_size, smaller)
        run.resume(start)
        run.batch_size = smaller
        if run.device.type == "cuda":
            torch.cuda.empty_cache()


class _Run:
    """A training in progress."""

    def __init__(
        self, config: TrainingConfig, folds: tuple[Examples, Examples], device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.model = DigitClassifier(build_network(config.network, config.kernel_sizes)).to(device)
        self.descent = Descent(self.model, config)
        self.batch_size = config.batch_size
        self._images, self._labels = _resident(folds[0], device)
        self._held_out = _resident(folds[1], device)
        self._data_digest = _digest(folds)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._epoch, self._step, self._best_step = 0, 0, 0
        self._history: tuple[EpochMetrics, ...] = ()
        self._best: dict[str, Tensor] = {}
        self._forward = _forward(self.model, config, device)

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or no validation was better for long enough."""
        patience = self.config.patience
        since = sum(metrics.step > self._best_step for metrics in self._history)
        return self._epoch >= self.config.epochs or (patience is not None and since >= patience)

    def train_epoch(self, watcher: Watcher) -> None:
        """Train the next epoch and validate."""
        total, seen = torch.zeros((), dtype=torch.float64), 0
        total = total.to(self.device)  # summed there: reading each loss would wait for the device
        pace = _Pace()
        order = torch.randperm(len(self._images), generator=self._generator)
        for index in torch.split(order, self.batch_size):
            self.model.train()
            labels = self._labels[index.to(self.device)]
            loss = functional.cross_entropy(
                self._forward(self._pixels(index)), labels, label_smoothing=self.config.label_smoothing
            )
            progress = (self._epoch + seen / len(self._images)) / self.config.epochs
            self.descent.step(loss, self._step, progress)
            self._step, seen = self._step + 1, seen + len(index)
            total += loss.detach() * len(index)
            if self._step % LOG_EVERY == 0 or seen == len(self._images):
                watcher.on_steps(self._step, self._step_metrics(loss, pace.lap(seen)))
            if self._due(seen):
                self._validate(watcher, self._epoch + 1, total / seen)
        watcher.on_gradients(self._step, self.model)
        self._epoch += 1
        self._validate(watcher, self._epoch, total / seen)

    def _pixels(self, index: Tensor) -> Tensor:
        images = self._images[index.to(self.device)]
        if augments(self.config):
            return augment(images, self.config, self._generator)
        return self.model.prepare(images)

    def _due(self, seen: int) -> bool:
        """Whether to validate in the middle of an epoch; its end is validated in any case."""
        every = self.config.validate_every
        return every is not None and self._step % every == 0 and seen < len(self._images)

    def _step_metrics(self, loss: Tensor, pace: float) -> StepMetrics:
        gradients = [weights.grad for weights in self.model.parameters() if weights.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        return StepMetrics(float(loss.detach()), self.descent.learning_rate, norm, pace)

    def _validate(self, watcher: Watcher, epoch: int, mean_loss: Tensor) -> None:
        loss = float(mean_loss)
        if not math.isfinite(loss):
            raise Permanent(f"the training loss became {loss}: lower learning_rate")
        average = self.descent.average
        metrics = EpochMetrics(epoch, self._step, loss, *self._measured(average))
        if not self._history or metrics.merit > max(former.merit for former in self._history):
            self._best_step = self._step
            self._best = {name: value.clone() for name, value in average.network.state_dict().items()}
        self._history = (*self._history, metrics)
        watcher.on_epoch(metrics, average)

    @torch.inference_mode()
    def _measured(self, model: DigitClassifier) -> tuple[float, float]:
        """Accuracy and mean NLL on the validation fold."""
        model.eval()
        images, labels = self._held_out
        # What fits into memory with gradients fits without.
        batches = torch.split(images, min(_EVALUATION_BATCH, self.batch_size))
        logits = torch.cat([model(batch) for batch in batches]).double()
        correct = int((logits.argmax(1) == labels).sum())
        return correct / len(labels), float(functional.cross_entropy(logits, labels))

    def trained(self) -> TrainedModel:
        """The weights that validated best."""
        return TrainedModel(self.config, weights_of(self._best), self._history, self._best_step)

    def checkpoint(self) -> Checkpoint:
        """All that the next epoch depends on, copied."""
        parts = {
            "model": self.model.network.state_dict(),
            "average": self.descent.average.network.state_dict(),
            "best": self._best,
            "optimizer": _flat(self.descent.optimizer),
            "random": self._random(),
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
                for part, all_ in parts.items()
                for name, value in all_.items()
            },
        )

    def resume(self, former: Checkpoint) -> None:
        """Go on from a checkpoint of this training.

        Raises:
            Permanent: it is one of another config or other data.
        """
        for what, theirs, mine in (
            ("config", former.config, self.config),
            ("data", former.data_digest, self._data_digest),
        ):
            if theirs != mine:
                raise Permanent(f"the checkpoint is of another {what}: {theirs}, not {mine}")
        load_state(self.model.network, former.part("model"))
        load_state(self.descent.average.network, former.part("average"))
        _unflatten(self.descent.optimizer, former.part("optimizer"))
        self._best = {name: value.to(self.device) for name, value in former.part("best").items()}
        self._epoch, self._step, self._best_step = former.epoch, former.step, former.best_step
        self._history, self.batch_size = former.history, former.batch_size
        random = former.part("random")
        self._generator.set_state(random["order"])
        torch.set_rng_state(random["cpu"])
        # One that began on the CPU has none, and goes on with that of the seed.
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)

    def _random(self) -> dict[str, Tensor]:
        states = {"order": self._generator.get_state(), "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states


class _Pace:
    """Examples a second, from one lap to the next."""

    def __init__(self) -> None:
        self._seen, self._at = 0, time.perf_counter()

    def lap(self, seen: int) -> float:
        at = time.perf_counter()
        pace = (seen - self._seen) / max(at - self._at, 1e-9)
        self._seen, self._at = seen, at
        return pace


def _forward(
    model: DigitClassifier, config: TrainingConfig, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The network's forward pass as the config wants it: compiled or not, in bfloat16 or not."""
    auto = config.precision is Precision.AUTO and device.type == "cuda"
    halved = auto or config.precision is Precision.BFLOAT16
    network: Callable[[Tensor], Tensor] = torch.compile(model.network) if config.compile else model.network

    def forward(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=halved):
            logits = network(pixels)
        return logits.float()

    return forward


def _resident(examples: Examples, device: torch.device) -> tuple[Tensor, Tensor]:
    # Copied: torch warns about arrays that it must not write to, such as those of a Parquet file.
    images = torch.tensor(examples.images).to(device)
    return images, torch.tensor(examples.labels).to(device, torch.long)


def _digest(folds: tuple[Examples, Examples]) -> str:
    digest = hashlib.sha256()
    for fold in folds:
        digest.update(len(fold).to_bytes(8, "little") + fold.images.tobytes() + fold.labels.tobytes())
    return digest.hexdigest()


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state by `<parameter's number>.<name>`; its options come from the config."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, of in state.items() for name, value in of.items()}


def _unflatten(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, _, key = name.partition(".")
        # Copied: the optimizer would change the checkpoint's own, to which a second try goes back.
        state.setdefault(int(index), {})[key] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
