"""A progress bar for people who watch a training; logs use lines of their own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics
from mnist_ops.vision.training.callbacks import Watcher

_log = logging.getLogger(__name__)


class TrainingBar(Watcher):
    """A bar that grows with every epoch."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def on_epoch(self, metrics: EpochMetrics, model: DigitClassifier) -> None:  # noqa: ARG002
        """Move on."""
        self._progress.update(self._task, completed=metrics.epoch, description=describe(metrics))


class TrainingLog(Watcher):
    """A log line a validation."""

    def on_epoch(self, metrics: EpochMetrics, model: DigitClassifier) -> None:  # noqa: ARG002
        """Write it."""
        _log.info("%s", describe(metrics))


@contextmanager
def training_bar(epochs: int, console: Console | None = None) -> Iterator[TrainingBar]:
    """Show a bar; what it gives is a watcher for `train`.

    Args:
        epochs: how many the training has.
        console: where to draw; standard error without one, so that results can be piped.
    """
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        yield TrainingBar(progress, progress.add_task("", total=epochs))


def describe(metrics: EpochMetrics) -> str:
    """One epoch in one line."""
    return (
        f"epoch {metrics.epoch}: loss {metrics.train_loss:.4f}, "
        f"validation accuracy {metrics.validation_accuracy:.2%}, nll {metrics.validation_nll:.4f}"
    )
