"""Whoever follows a training: a progress bar, a log, a tracker of experiments."""

from collections.abc import Sequence

from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel


class Watcher:
    """Is told of a training as it goes; each method does nothing until a subclass makes it."""

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Before the first step, of a resumed training too."""

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """After every so many steps and the last of each epoch; `step` counts from 1 over all epochs."""

    def on_gradients(self, step: int, model: DigitClassifier) -> None:
        """Once an epoch, right after the backward pass: `grad` of the weights is set."""

    def on_epoch(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """After every validation, with the averaged weights that were validated."""

    def on_end(self, trained: TrainedModel) -> None:
        """After the last epoch."""


class Watchers(Watcher):
    """Several of them, told one after the other.

    Args:
        watchers: all of them.
    """

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.on_start(model, training, validation)

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.on_steps(step, metrics)

    def on_gradients(self, step: int, model: DigitClassifier) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.on_gradients(step, model)

    def on_epoch(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.on_epoch(metrics, model)

    def on_end(self, trained: TrainedModel) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.on_end(trained)
