"""The results of a training: its metrics over time, and the trained network."""

from dataclasses import dataclass

from mnist_ops.vision.config.schema import TrainingConfig


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """The metrics of the last steps.

    Attributes:
        loss: of the last step, mean over its examples.
        learning_rate: of the last step.
        gradient_norm: L2 norm over all weights, of the last step.
        examples_per_s: since the previous metrics.
    """

    loss: float
    learning_rate: float
    gradient_norm: float
    examples_per_s: float


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """The metrics of one validation: at the end of each epoch, and more often if the config says so.

    Attributes:
        epoch: from 1.
        step: from 1, counted over all epochs.
        train_loss: mean over the epoch's examples so far.
        validation_accuracy: share of the validation fold classified correctly, 0 to 1.
        validation_nll: mean negative log-likelihood, nats.
    """

    epoch: int
    step: int
    train_loss: float
    validation_accuracy: float
    validation_nll: float

    @property
    def selection_key(self) -> tuple[float, float]:
        """The higher, the better: the lower NLL, and among equals the accuracy.

        NLL first: every example moves it, while on a small fold the highest accuracy of many epochs is luck.
        """
        return -self.validation_nll, self.validation_accuracy


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained network.

    Attributes:
        weights: of the best validation, in the safetensors format.
        history: one entry for each validation.
        best_step: the step of the best validation.
        parameters: the number of trainable parameters.
    """

    config: TrainingConfig
    weights: bytes
    history: tuple[EpochMetrics, ...]
    best_step: int
    parameters: int

    @property
    def best(self) -> EpochMetrics:
        """The metrics of the best validation."""
        return next(metrics for metrics in self.history if metrics.step == self.best_step)
