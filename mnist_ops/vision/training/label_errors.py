"""Find human labels that are likely wrong: confident learning on out-of-fold probabilities.

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
# Fast, and good enough on hundreds of digits; the defaults of TrainingConfig are for large data sets.
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
_VALIDATION = 10  # 1 in 10 examples outside of a fold is used for validation instead of training


@dataclass(frozen=True, slots=True)
class LabelError:
    """A label that is likely wrong.

    Attributes:
        index: the index of the example.
        given: the class of its label.
        suggested: the more likely class.
        margin: the probability of the suggested class minus that of the given one, -1 to 1.
        confident: whether the probability of the suggested class reaches that class's threshold.
    """

    index: int
    given: int
    suggested: int
    margin: float
    confident: bool


def likely_label_errors(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> list[LabelError]:
    """Find the labels that contradict the classifier, the most likely errors first.

    The threshold of a class is the mean probability of that class among the examples labelled with it. An
    example is listed if another class is more probable than its label. The error is confident if that class
    reaches its threshold; nearly all confident errors are real. The others are hard digits and the remaining
    errors.

    Args:
        probabilities: float (N, C); each row from a classifier that was not trained on that example.
        labels: integers (N,), 0 to C - 1.

    Returns:
        The confident errors, then the others; both by margin, largest first, then by index.

    Raises:
        Permanent: see `require_labelled`.
    """
    require_labelled(probabilities, labels)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels].astype(np.float64)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    # A class without labels has no threshold that could be reached.
    thresholds = np.full(len(counts), np.inf)
    np.divide(np.bincount(labels, own, len(counts)), counts, out=thresholds, where=counts > 0)
    reached = np.where(probabilities >= thresholds, probabilities, -np.inf)
    confident = (reached.argmax(axis=1) != labels) & np.isfinite(reached.max(axis=1))
    suggested = np.where(confident, reached.argmax(axis=1), probabilities.argmax(axis=1))
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
    """Count the examples of each of the 10 classes."""
    return tuple(np.bincount(labels, minlength=CLASSES).tolist())


def out_of_fold_probabilities(
    examples: Examples, config: TrainingConfig, device: torch.device, folds: int = FOLDS
) -> NDArray[np.float32]:
    """Return the probabilities of each example from a classifier that was not trained on it.

    The sha256 of its pixels decides the fold of an example, so equal images share a fold and the order does
    not matter. For each fold, a classifier is trained on the others.

    Args:
        examples: all labelled digits.
        config: the config of each classifier, such as `OUT_OF_FOLD_CONFIG`; a rough classifier is enough.
        device: the device to train on.
        folds: how many folds, at least 2.

    Returns:
        float32 (N, 10), in the order of the examples.

    Raises:
        Permanent: there are too few examples for that many folds.
    """
    if folds < 2:
        raise Permanent(f"{folds} folds: each classifier is trained on the others, so take at least 2")
    order, digests = _by_digest(examples)
    fold = np.array([digest % folds for digest in digests], np.int64)
    validation = np.array([digest // folds % _VALIDATION == 0 for digest in digests], bool)
    probabilities = np.empty((len(examples), CLASSES), np.float32)
    for number in range(folds):
        others = fold != number
        model = train(
            _take(examples, order[others & ~validation]),
            _take(examples, order[others & validation]),
            config,
            device,
        )
        held_out = order[fold == number]
        logits = trained_logits(model, examples.images[held_out], str(device))
        probabilities[held_out] = softmax(logits, 1.0)
    return probabilities


def _by_digest(examples: Examples) -> tuple[NDArray[np.int64], list[int]]:
    """The rows sorted by the sha256 of their pixels, and these digests as integers."""
    digests = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()) for image in examples.images]
    order = sorted(range(len(examples)), key=lambda row: (digests[row], int(examples.labels[row])))
    return np.array(order, np.int64), [digests[row] for row in order]


def _take(examples: Examples, rows: NDArray[np.int64]) -> Examples:
    return Examples(examples.images[rows], examples.labels[rows])
