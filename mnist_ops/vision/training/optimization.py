"""Update the weights after each batch: optimizer, learning rate schedule, moving average of the weights.

Sources: L. N. Smith and N. Topin, "Super-convergence", 2018 (one-cycle); B. T. Polyak and A. B. Juditsky,
"Acceleration of stochastic approximation by averaging", 1992.
"""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mnist_ops.vision.config.schema import Optimizer, Schedule, TrainingConfig
from mnist_ops.vision.models.digit_classifier import DigitClassifier

_WARMUP = 0.3  # share of a one-cycle training in which the learning rate rises
_INITIAL_FACTOR = 1 / 25  # of the peak: where a one-cycle learning rate begins


class WeightUpdater:
    """Updates the weights of a model, and their exponential moving average (EMA).

    Attributes:
        average: a copy of the model that holds the EMA of its weights and batch statistics.
    """

    def __init__(self, model: DigitClassifier, config: TrainingConfig) -> None:
        self.average = deepcopy(model)
        self.optimizer = _optimizer(model, config)
        self.learning_rate = 0.0
        self._config = config
        self._averaged, self._trained = _float_tensors(self.average), _float_tensors(model)

    def step(self, loss: Tensor, steps_done: int, progress: float) -> None:
        """Update the weights by the gradient of a loss, then their average.

        Args:
            loss: scalar, the mean over the batch.
            steps_done: how many steps came before this one.
            progress: the share of the training that is done, 0 to 1.
        """
        self.learning_rate = self._config.learning_rate * learning_rate_factor(self._config, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        # The decay grows with the first steps, so that the average forgets the random initial weights.
        decay = min(self._config.averaging, (1 + steps_done) / (10 + steps_done))
        # `AveragedModel` would call this function too, but its first step copies the weights, and each step
        # reads a counter from the device.
        update_average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update_average(self._averaged, self._trained, steps_done)


def learning_rate_factor(config: TrainingConfig, progress: float) -> float:
    """The learning rate divided by its peak, when a share `progress` (0 to 1) of the training is done."""
    match config.schedule:
        case Schedule.CONSTANT:
            return 1.0
        case Schedule.COSINE:
            return _cosine(1, 0, progress)
        case Schedule.STEP:
            # The tolerance: rounding may put the first step of an epoch just before that epoch.
            return config.step_factor ** int(progress * config.epochs / config.step_epochs + 1e-9)
        case Schedule.ONE_CYCLE if progress < _WARMUP:
            return _cosine(_INITIAL_FACTOR, 1, progress / _WARMUP)
        case Schedule.ONE_CYCLE:
            return _cosine(1, 0, (progress - _WARMUP) / (1 - _WARMUP))


def _cosine(start: float, end: float, progress: float) -> float:
    """Interpolate from `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _float_tensors(model: DigitClassifier) -> list[Tensor]:
    """The weights and batch statistics, by reference."""
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
