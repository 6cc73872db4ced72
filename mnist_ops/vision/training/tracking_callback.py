"""A training as a tracker is told of it."""

import os
import platform
import socket
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
from mnist_ops.vision.training.tracking import Experiment, Outcome, Queue, Status, Tracker

WINDOW = 20  # losses in the queue: of the last 2,000 steps, where every hundredth is told
EMBEDDED = 1000  # digits in the projector: its browser moves each of them
SAMPLES_A_CLASS = 8


@contextmanager
def tracked(
    tracker: Tracker, experiment: Experiment, now: Callable[[], datetime]
) -> Iterator["TrackingCallback"]:
    """Track the one training that is run inside; gives what has to watch it.

    An error inside is noted as the training's outcome, and goes on.

    Args:
        tracker: is told of everything.
        experiment: the training.
        now: the clock.
    """
    tracker.begin(experiment)
    try:
        yield TrackingCallback(tracker, now)
    except BaseException as error:
        status = Status.FAILED if isinstance(error, Exception) else Status.INTERRUPTED
        tracker.finish(Outcome(status, now(), why=f"{type(error).__name__}: {error}"))
        raise


class TrackingCallback(TrainingCallback):
    """Tells a tracker of a training: numbers, distributions, the graph, digits and their embedding.

    Args:
        tracker: is told; it has begun the experiment.
        now: the clock.
    """

    def __init__(self, tracker: Tracker, now: Callable[[], datetime]) -> None:
        self._tracker, self._now = tracker, now
        self._losses = Queue(WINDOW)
        self._validation: Examples | None = None
        self._weights_due = False

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Show some digits of every class, and how the network is made up."""
        self._validation = validation
        shown = samples(training.labels, SAMPLES_A_CLASS)
        self._tracker.images(0, "training/sample", training.images[shown], _names(training.labels[shown]))
        # A copy: what draws the graph runs the network, and the training must not notice.
        network = deepcopy(model.network).cpu().eval()
        self._tracker.graph(network, torch.zeros(1, 1, INPUT_SIDE, INPUT_SIDE))

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """Note the last step's numbers, and the loss of the last steps together."""
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
        self._tracker.queues(step, {"train/loss": self._losses.summary()})

    def on_gradients(self, step: int, model: DigitClassifier) -> None:
        """Note the gradients of each layer."""
        gradients = {
            f"gradients/{name}": _array(weights.grad)
            for name, weights in model.network.named_parameters()
            if weights.grad is not None
        }
        self._tracker.histograms(step, gradients)
        self._weights_due = True

    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Note a validation, and at the end of an epoch the weights of each layer."""
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
        """Show where the kept weights put the validation fold, and note what came out."""
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
        self._tracker.finish(Outcome(Status.FINISHED, self._now(), trained.best_epoch))


@torch.inference_mode()
def embed(trained: TrainedModel, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the last layer of a trained network sees of digits.

    Args:
        trained: its kept weights are used.
        images: uint8 (N, 28, 28), ink 255 on 0; they are normalised as for training.

    Returns:
        float32 (N, D).
    """
    config = trained.config
    model = DigitClassifier(network_from(config.network, trained.weights, config.kernel_sizes)).eval()
    vectors: NDArray[np.float32] = model.network.embed(model.prepare(torch.tensor(images))).numpy()
    return vectors


def environment_of(device: torch.device) -> dict[str, str]:
    """What a training runs on: versions, machine and device."""
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


def samples(labels: NDArray[np.uint8], a_class: int) -> NDArray[np.intp]:
    """Indices of the first examples of each class, the classes in turn."""
    first = [np.flatnonzero(labels == index)[:a_class] for index in range(CLASSES)]
    turns = [indices[turn] for turn in range(a_class) for indices in first if turn < len(indices)]
    return np.array(turns, dtype=np.intp)


def spread(count: int, most: int) -> NDArray[np.intp]:
    """At most so many of `count` indices, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def _names(labels: NDArray[np.uint8]) -> list[str]:
    return [DIGITS.name(int(label)) for label in labels]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array
