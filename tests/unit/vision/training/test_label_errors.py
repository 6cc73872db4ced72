"""Likely label errors: confident learning on planted errors."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.local.sample_digits import load
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.training.label_errors import (
    OUT_OF_FOLD_CONFIG,
    class_balance,
    likely_label_errors,
    out_of_fold_probabilities,
)

CPU = torch.device("cpu")
QUICK = OUT_OF_FOLD_CONFIG.model_copy(update={"epochs": 1})


def flipped(labels: NDArray[np.uint8], share: float) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return labels with a share of them flipped, and the indices of these."""
    generator = np.random.default_rng(7)
    rows = generator.choice(len(labels), round(share * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[rows] = (labels[rows] + generator.integers(1, 10, len(rows))) % 10
    return wrong, rows


def test_planted_errors_rank_at_the_top() -> None:
    """2 % of 1,200 labels are flipped; at least 80 % of them are among the first twice as many."""
    images, labels = load("train")
    wrong, planted = flipped(labels[:1200], 0.02)
    probabilities = out_of_fold_probabilities(Examples(images[:1200], wrong), OUT_OF_FOLD_CONFIG, CPU)
    top = likely_label_errors(probabilities, wrong)[: 2 * len(planted)]
    found = {error.index for error in top} & set(planted.tolist())
    assert len(found) >= 0.8 * len(planted)
    suggested = {error.index: error.suggested for error in top}
    assert sum(suggested[row] == labels[row] for row in found) >= 0.9 * len(found)


def test_a_confident_contradiction_is_listed_with_both_labels_and_the_margin() -> None:
    """So that a person can decide."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
    (error,) = likely_label_errors(probabilities, np.array([0, 0, 1, 1, 1]))
    assert (error.index, error.given, error.suggested) == (4, 1, 0)
    assert error.margin == pytest.approx(0.9)


def test_the_widest_margin_comes_first() -> None:
    """Among confident errors."""
    probabilities = np.array([[0.9, 0.1]] * 8 + [[0.1, 0.9]] * 8 + [[0.93, 0.07], [0.98, 0.02]])
    labels = np.array([0] * 8 + [1] * 10)
    assert [error.index for error in likely_label_errors(probabilities, labels)] == [17, 16]


def test_an_error_below_the_threshold_comes_after_every_confident_one() -> None:
    """Also with a wider margin."""
    probabilities = np.array([[0.95, 0.05]] * 20 + [[0.3, 0.7]] * 20 + [[0.9, 0.1], [0.2, 0.8]])
    labels = np.array([0] * 20 + [1] * 21 + [0])
    first, second = likely_label_errors(probabilities, labels)
    assert (first.index, first.confident, second.index, second.confident) == (41, True, 40, False)
    assert second.margin > first.margin


def test_an_example_labelled_with_its_most_probable_class_is_not_listed() -> None:
    """Also if the margin is small."""
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.45, 0.55]])
    assert likely_label_errors(probabilities, np.array([0, 0, 1, 1])) == []


def test_a_class_without_labels_is_never_suggested() -> None:
    """It has no examples to compare with."""
    probabilities = np.array([[0.1, 0.0, 0.9], [0.6, 0.1, 0.3], [0.1, 0.6, 0.3]])
    assert likely_label_errors(probabilities, np.array([0, 0, 1])) == []


def test_the_order_of_the_examples_does_not_matter() -> None:
    """The pixels decide the folds and the order of training."""
    images, labels = (array[:300] for array in load("train"))
    shuffled = np.random.default_rng(1).permutation(300)
    straight = out_of_fold_probabilities(Examples(images, labels), QUICK, CPU, folds=2)
    moved = out_of_fold_probabilities(Examples(images[shuffled], labels[shuffled]), QUICK, CPU, folds=2)
    np.testing.assert_allclose(moved, straight[shuffled], atol=1e-6)


@pytest.mark.parametrize(("count", "folds"), [(3, 2), (0, 4), (300, 1)])
def test_too_few_examples_or_folds_are_refused(count: int, folds: int) -> None:
    """Each fold needs other examples for training and for validation."""
    images, labels = load("train")
    with pytest.raises(Permanent):
        out_of_fold_probabilities(Examples(images[:count], labels[:count]), QUICK, CPU, folds=folds)


def test_the_class_balance_counts_every_class() -> None:
    """Also those without examples."""
    assert class_balance(np.array([0, 9, 9], np.uint8)) == (1, 0, 0, 0, 0, 0, 0, 0, 0, 2)
