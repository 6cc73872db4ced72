"""The training callback that feeds a tracker."""

import os
import platform
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnist_ops.domain.labels import DIGITS
from mnist_ops.vision.data.examples import CLASSES, Examples
from mnist_ops.vision.models.architectures import INPUT_SIDE
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel
from mnist_ops.vision.models.weights import network_from
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Status, Tracker

WINDOW = 20  # losses in the queue: those of 2,000 steps, because every hundredth step is reported
EMBEDDED = 1000  # digits in the projector: the browser moves each of them
SAMPLES_PER_CLASS = 8


@contextmanager
def tracked(
    tracker: Tracker, experiment: Experiment, now: Callable[[], datetime]
) -> Iterator["TrackingCallback"]:
    """Track the training that runs inside; yields the callback to pass to it.

    An error inside is recorded as the outcome of the training, and raised again.
    """
    tracker.begin(experiment)
    try:
        yield TrackingCallback(tracker, now)
    except BaseException as error:
        status = Status.FAILED if isinstance(error, Exception) else Status.INTERRUPTED
        tracker.finish(Outcome(status, now(), why=f"{type(error).__name__}: {error}"))
        raise


class TrackingCallback(TrainingCallback):
    """Sends a training to a tracker: numbers, distributions, the graph, digits and their embedding."""

    def __init__(self, tracker: Tracker, now: Callable[[], datetime]) -> None:
        self._tracker, self._now = tracker, now
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._validation: Examples | None = None
        self._weights_due = False

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Record some digits of every class, and the graph of the network."""
        self._validation = validation
        shown = samples(training.labels, SAMPLES_PER_CLASS)
        self._tracker.images(0, "training/sample", training.images[shown], _names(training.labels[shown]))
        # A copy: tracing the graph runs the network, which must not change the one in training.
        network = deepcopy(model.network).cpu().eval()
        self._tracker.graph(network, torch.zeros(1, 1, INPUT_SIDE, INPUT_SIDE))

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """Record the numbers of the last step, and the statistics of the last losses."""
        self._losses.append(metrics.loss)
        self._tracker.scalars(
            step,
            {
                "train/loss": metrics.loss,
                "train/learning_rate": metrics.learning_rate,
                "train/gradient_norm": metrics.gradient_norm,
                "train/examples_per_s": metrics.examples_per_s,
            },
        )
        self._tracker.queues(step, {"train/loss": QueueSummary.of(self._losses)})

    def on_gradients(self, step: int, model: DigitClassifier) -> None:
        """Record the gradients of each layer."""
        gradients = {
            f"gradients/{name}": _array(weights.grad)
            for name, weights in model.network.named_parameters()
            if weights.grad is not None
        }
        self._tracker.histograms(step, gradients)
        self._weights_due = True

    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Record a validation and, at the end of an epoch, the weights of each layer."""
        self._tracker.scalars(
            metrics.step,
            {
                "train/epoch": float(metrics.epoch),
                "train/epoch_loss": metrics.train_loss,
                "validation/accuracy": metrics.validation_accuracy,
                "validation/nll": metrics.validation_nll,
            },
        )
        if self._weights_due:
            self._weights_due = False
            named = model.network.named_parameters()
            self._tracker.histograms(
                metrics.step, {f"weights/{name}": _array(weights) for name, weights in named}
            )

    def on_end(self, trained: TrainedModel) -> None:
        """Record the embedding of the validation fold by the kept weights, the final metrics and the end."""
        best = trained.best
        if self._validation is not None:
            shown = spread(len(self._validation), EMBEDDED)
            images, labels = self._validation.images[shown], self._validation.labels[shown]
            self._tracker.embedding(best.step, "validation", embed(trained, images), _names(labels), images)
        self._tracker.hparams(
            trained.config.model_dump(mode="json"),
            {
                "best/epoch": float(best.epoch),
                "best/train_loss": best.train_loss,
                "best/validation_accuracy": best.validation_accuracy,
                "best/validation_nll": best.validation_nll,
            },
        )
        self._tracker.finish(Outcome(Status.FINISHED, self._now(), trained.best.epoch))


@torch.inference_mode()
def embed(trained: TrainedModel, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The inputs (N, D) of a trained network's last layer for digits uint8 (N, 28, 28), ink 255 on 0."""
    config = trained.config
    model = DigitClassifier(network_from(config.network, trained.weights, config.kernel_sizes)).eval()
    vectors: NDArray[np.float32] = model.network.embed(model.prepare(torch.tensor(images))).numpy()
    return vectors


def environment_of(device: torch.device) -> dict[str, str]:
    """Return what a training runs on: versions, machine and device, by name."""
    found = {
        "mnist_ops": version("mnist-ops"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": str(os.cpu_count()),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def samples(labels: NDArray[np.uint8], per_class: int) -> NDArray[np.intp]:
    """Return the indices of the first examples of each class, the classes in rotation."""
    by_class = [np.flatnonzero(labels == index)[:per_class] for index in range(CLASSES)]
    rotation = [indices[turn] for turn in range(per_class) for indices in by_class if turn < len(indices)]
    return np.array(rotation, dtype=np.intp)


def spread(count: int, limit: int) -> NDArray[np.intp]:
    """Return up to `limit` of the indices 0 to `count` - 1, evenly spaced."""
    return np.linspace(0, count - 1, min(count, limit)).astype(np.intp)


def _names(labels: NDArray[np.uint8]) -> list[str]:
    return [DIGITS.name(int(label)) for label in labels]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
