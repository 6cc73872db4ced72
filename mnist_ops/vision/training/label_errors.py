"""Which human labels are likely wrong: confident learning on out-of-fold probabilities.

Source: C. G. Northcutt, L. Jiang, I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", 2021.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import CLASSES, Examples
from mnist_ops.vision.evaluation.calibration import require_labelled
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.training.trainer import train

FOLDS = 4
# Good on hundreds of digits as on many thousands, and quick: the usual defaults are for large data sets.
OUT_OF_FOLD_CONFIG = TrainingConfig(
    epochs=12,
    batch_size=32,
    learning_rate=0.01,
    weight_decay=0.1,
    averaging=0.95,
    rotate=0,
    shear=0,
    zoom=0,
    shift=1,
    elastic=0,
)
_CHOOSING = 10  # one in so many of a fold's training examples chooses the epoch instead


@dataclass(frozen=True, slots=True)
class LabelError:
    """A label that is likely wrong.

    Attributes:
        index: of the example.
        given: the class it is labelled as.
        suggested: the class that it more likely is.
        margin: the probability of the suggested class less that of the given one, -1 to 1.
        confident: whether the suggested class is as sure of the example as it is of its own ones.
    """

    index: int
    given: int
    suggested: int
    margin: float
    confident: bool


def likely_label_errors(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> list[LabelError]:
    """Find the labels that contradict what the classifier says, the likeliest errors first.

    A class is sure of an example where the example's probability of it reaches the mean that the class's
    own examples have. An example that is likelier to be of another class than the given one is listed;
    where that class is sure of it, the error is a confident one, and nearly all of these are real. The
    others come after them: hard digits, and the rest of the errors.

    Args:
        probabilities: float (N, C), of classifiers that were not trained on the example in question.
        labels: integers (N,), 0 to C - 1, as given.

    Returns:
        The confident ones, then the others, each by margin, largest first; among equals in the order
        of the examples.

    Raises:
        Permanent: as `require_labelled`.
    """
    require_labelled(probabilities, labels)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels].astype(np.float64)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    # No example is of a class that nobody labelled, so it is sure of none.
    thresholds = np.full(len(counts), np.inf)
    np.divide(np.bincount(labels, own, len(counts)), counts, out=thresholds, where=counts > 0)
    sure = np.where(probabilities >= thresholds, probabilities, -np.inf)
    confident = (sure.argmax(axis=1) != labels) & np.isfinite(sure.max(axis=1))
    suggested = np.where(confident, sure.argmax(axis=1), probabilities.argmax(axis=1))
    margins = probabilities[rows, suggested] - own
    suspects = np.flatnonzero((margins > 0) & (counts[suggested] > 0))
    ranked = suspects[np.lexsort((-margins[suspects], ~confident[suspects]))]
    return [
        LabelError(
            index=int(row),
            given=int(labels[row]),
            suggested=int(suggested[row]),
            margin=float(margins[row]),
            confident=bool(confident[row]),
        )
        for row in ranked
    ]


def class_balance(labels: NDArray[np.integer]) -> tuple[int, ...]:
    """How many examples each of the 10 classes has."""
    return tuple(np.bincount(labels, minlength=CLASSES).tolist())


def out_of_fold_probabilities(
    examples: Examples, config: TrainingConfig, device: torch.device, folds: int = FOLDS
) -> NDArray[np.float32]:
    """What classifiers say of examples that they were not trained on.

    The examples are parted by the sha256 of their pixels, so that equal pictures stay together and
    their order does not matter. For each part a classifier is trained on the others.

    Args:
        examples: all labelled digits.
        config: of each classifier, such as `OUT_OF_FOLD_CONFIG`; they need not be good.
        device: to train on.
        folds: parts, at least 2.

    Returns:
        float32 (N, 10), in the order of the examples.

    Raises:
        Permanent: there are too few examples for that many parts.
    """
    if folds < 2:
        raise Permanent(f"{folds} folds: no classifier could be trained on the others; take at least 2")
    order, digests = _in_order(examples)
    part = np.array([digest % folds for digest in digests], np.int64)
    choosing = np.array([digest // folds % _CHOOSING == 0 for digest in digests], bool)
    probabilities = np.empty((len(examples), CLASSES), np.float32)
    for number in range(folds):
        others = part != number
        model = train(
            _take(examples, order[others & ~choosing]),
            _take(examples, order[others & choosing]),
            config,
            device,
        )
        held_out = order[part == number]
        logits = trained_logits(model, examples.images[held_out], str(device))
        probabilities[held_out] = softmax(logits, 1.0)
    return probabilities


def _in_order(examples: Examples) -> tuple[NDArray[np.int64], list[int]]:
    """The rows by the sha256 of their pixels, and those as numbers: no order comes from outside."""
    digests = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()) for image in examples.images]
    order = sorted(range(len(examples)), key=lambda row: (digests[row], int(examples.labels[row])))
    return np.array(order, np.int64), [digests[row] for row in order]


def _take(examples: Examples, rows: NDArray[np.int64]) -> Examples:
    return Examples(examples.images[rows], examples.labels[rows])
