"""Train with progress: a bar on a terminal, a line per validation in a log; every training is tracked."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mnist_ops.domain.keys import digest_in_name
from mnist_ops.pipeline import Pipeline
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics
from mnist_ops.vision.training.callbacks import TrainingCallback, TrainingCallbacks
from mnist_ops.vision.training.tracking import Experiment, experiment_name
from mnist_ops.vision.training.tracking_callback import environment_of, tracked
from mnist_ops.vision.training.trainer import pick_device
from mnist_ops.wiring import tracker_of

_log = logging.getLogger(__name__)


def train_with_progress(pipeline: Pipeline, dataset: str, config: TrainingConfig) -> str:
    """Train on a data set, given by its manifest; returns the training's URI."""
    device, values = pick_device(pipeline.settings.device), config.model_dump(mode="json")
    experiment = Experiment(
        name=experiment_name(config.network, dataset, values),
        started_at=pipeline.now(),
        config=values,
        dataset=f"sha256:{digest_in_name(dataset)}",
        device=device.type,
        environment=environment_of(device),
    )
    tracker = tracker_of(pipeline.settings)
    with _progress(config.epochs) as progress, tracked(tracker, experiment, pipeline.now) as tracking:
        return pipeline.train(dataset, config, TrainingCallbacks([progress, tracking]))


class TrainingBar(TrainingCallback):
    """Updates a progress bar after every validation."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:  # noqa: ARG002
        """Update the bar and the numbers beside it."""
        self._progress.update(self._task, completed=metrics.epoch, description=_summary(metrics))


class TrainingLog(TrainingCallback):
    """Writes a log line after every validation."""

    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:  # noqa: ARG002
        """Write the line."""
        _log.info("%s", _summary(metrics))


@contextmanager
def training_bar(epochs: int, console: Console | None = None) -> Iterator[TrainingBar]:
    """Show a progress bar; yields the callback that updates it.

    Args:
        epochs: how many the training has.
        console: where to draw; standard error by default, so that results can be piped.
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


@contextmanager
def _progress(epochs: int) -> Iterator[TrainingCallback]:
    if sys.stderr.isatty():
        with training_bar(epochs) as bar:
            yield bar
    else:
        yield TrainingLog()


def _summary(metrics: EpochMetrics) -> str:
    """One validation in one line."""
    return (
        f"epoch {metrics.epoch}: loss {metrics.train_loss:.4f}, "
        f"validation accuracy {metrics.validation_accuracy:.2%}, nll {metrics.validation_nll:.4f}"
    )
