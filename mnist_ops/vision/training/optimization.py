"""One step of a training after the other: optimizer, learning rate, and the average of the weights.

Sources: L. N. Smith and N. Topin, "Super-convergence", 2018 (one-cycle); B. T. Polyak and A. B. Juditsky,
"Acceleration of stochastic approximation by averaging", 1992.
"""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from mnist_ops.vision.config.schema import Optimizer, Schedule, TrainingConfig
from mnist_ops.vision.models.digit_classifier import DigitClassifier

_RISE = 0.3  # of a one-cycle training: the share in which the learning rate rises
_START = 1 / 25  # of the peak: where a one-cycle learning rate begins


class Descent:
    """Takes the weights downhill.

    Args:
        model: what is trained.
        config: the hyperparameters.

    Attributes:
        average: the model with the running average of the trained weights.
        optimizer: torch's.
        learning_rate: of the last step.
    """

    def __init__(self, model: DigitClassifier, config: TrainingConfig) -> None:
        self.average = deepcopy(model)
        self.optimizer = _optimizer(model, config)
        self.learning_rate = 0.0
        self._config = config
        self._pair = (_state(self.average), _state(model))

    def step(self, loss: Tensor, steps: int, progress: float) -> None:
        """Step against the gradient of a loss.

        Args:
            loss: mean over the batch.
            steps: how many are done.
            progress: the share of the training that is done, 0 to 1.
        """
        self.learning_rate = self._config.learning_rate * rate(self._config, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        # Over few steps at first: the average must not remember the random weights it began with.
        share = min(self._config.averaging, (1 + steps) / (10 + steps))
        average, trained = self._pair
        with torch.no_grad():
            torch._foreach_lerp_(average, trained, 1 - share)


def rate(config: TrainingConfig, progress: float) -> float:
    """The learning rate as a share of its peak, for the share of the training that is done, 0 to 1."""
    match config.schedule:
        case Schedule.CONSTANT:
            return 1.0
        case Schedule.COSINE:
            return _cosine(1, 0, progress)
        case Schedule.STEP:
            # The tolerance: an epoch's first step may come out a rounding error before it.
            return config.step_factor ** int(progress * config.epochs / config.step_epochs + 1e-9)
        case Schedule.ONE_CYCLE if progress < _RISE:
            return _cosine(_START, 1, progress / _RISE)
        case Schedule.ONE_CYCLE:
            return _cosine(1, 0, (progress - _RISE) / (1 - _RISE))


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _state(model: DigitClassifier) -> list[Tensor]:
    """The weights and batch statistics themselves, not copies of them."""
    return [tensor for tensor in model.network.state_dict().values() if tensor.is_floating_point()]


def _optimizer(model: DigitClassifier, config: TrainingConfig) -> torch.optim.Optimizer:
    groups, rate = _parameter_groups(model.network, config.weight_decay), config.learning_rate
    match config.optimizer:
        case Optimizer.ADAMW:
            return torch.optim.AdamW(groups, lr=rate)
        case Optimizer.ADAM:
            return torch.optim.Adam(groups, lr=rate)
        case Optimizer.ADADELTA:
            return torch.optim.Adadelta(groups, lr=rate)
        case Optimizer.SGD:
            return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0)


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
