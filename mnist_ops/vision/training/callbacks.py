"""Callbacks of a training: a progress bar, a log, an experiment tracker."""

from collections.abc import Sequence

from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel


class TrainingCallback:
    """Follows a training. Every method does nothing; a subclass overrides the ones that it needs."""

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Called before the first step, also when a training resumes."""

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """Called every `LOG_EVERY` steps and at the end of each epoch; `step` counts from 1."""

    def on_gradients(self, step: int, model: DigitClassifier) -> None:
        """Called at the end of each epoch, right after the backward pass: the weights' `grad` is set."""

    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Called after each validation; `model` holds the averaged weights that were validated."""

    def on_end(self, trained: TrainedModel) -> None:
        """Called after the last epoch."""


class TrainingCallbacks(TrainingCallback):
    """Calls several callbacks in order."""

    def __init__(self, callbacks: Sequence[TrainingCallback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Call each callback."""
        for callback in self._callbacks:
            callback.on_start(model, training, validation)

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """Call each callback."""
        for callback in self._callbacks:
            callback.on_steps(step, metrics)

    def on_gradients(self, step: int, model: DigitClassifier) -> None:
        """Call each callback."""
        for callback in self._callbacks:
            callback.on_gradients(step, model)

    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Call each callback."""
        for callback in self._callbacks:
            callback.on_validation(metrics, model)

    def on_end(self, trained: TrainedModel) -> None:
        """Call each callback."""
        for callback in self._callbacks:
            callback.on_end(trained)
