"""A trained network with its abstention, to try on pictures that are not digits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.abstention import Abstention, fit_abstention
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.training.trainer import pick_device, train


@dataclass(frozen=True)
class Detector:
    """A network with the abstention that was fitted for it."""

    model: TrainedModel
    abstention: Abstention

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The score of each of the pictures uint8 (N, 28, 28), higher for less like a digit."""
        return self.abstention.scores(images, trained_logits(self.model, images))

    def flagged(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of the pictures uint8 (N, 28, 28) are flagged as not a digit."""
        return self.scores(images) > self.abstention.threshold


def make_detector(digits: Examples, config: TrainingConfig) -> Detector:
    """Train on the first nine tenths of the digits; the rest chooses the epoch and sets the threshold."""
    split = len(digits) * 9 // 10
    training = Examples(digits.images[:split], digits.labels[:split])
    validation = Examples(digits.images[split:], digits.labels[split:])
    model = train(training, validation, config, pick_device("cpu"))
    logits = trained_logits(model, validation.images)
    return Detector(model, fit_abstention(training, validation.images, logits))
