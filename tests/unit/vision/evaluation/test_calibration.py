"""Fitting the temperature, and the reliability of probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperature,
    nll_at,
    reliability,
)
from mnist_ops.vision.inference.softmax import softmax

LOGITS = arrays(np.float32, st.tuples(st.integers(1, 40), st.just(10)), elements=st.floats(-60, 60, width=32))


def drawn(temperature: float, samples: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 4, (samples, 10)).astype(np.float32)
    cumulative = softmax(logits, temperature).cumsum(axis=1)
    labels = (generator.random((samples, 1)) > cumulative).sum(axis=1).clip(max=9)
    return logits, labels


# --- temperature


@given(LOGITS, st.integers(0, 2**32 - 1))
def test_a_fitted_temperature_is_in_bounds_and_never_worse_than_none(
    logits: NDArray[np.float32], seed: int
) -> None:
    """For any logits and labels."""
    labels = np.random.default_rng(seed).integers(0, 10, len(logits))
    fitted = fit_temperature(logits, labels)
    assert MIN_TEMPERATURE <= fitted <= MAX_TEMPERATURE
    assert nll_at(logits, labels, fitted) <= nll_at(logits, labels, 1.0)


@given(LOGITS, st.floats(MIN_TEMPERATURE, MAX_TEMPERATURE))
def test_a_temperature_never_changes_the_most_probable_class(
    logits: NDArray[np.float32], temperature: float
) -> None:
    """Another class can only have an equal probability, through rounding to float32."""
    probabilities = softmax(logits, temperature)
    chosen = probabilities[np.arange(len(logits)), logits.argmax(axis=1)]
    assert (chosen == probabilities.max(axis=1)).all()


@pytest.mark.parametrize("actual", [0.5, 1.0, 1.7, 3.0])
def test_the_true_temperature_is_found(actual: float) -> None:
    """From labels drawn at that temperature."""
    assert fit_temperature(*drawn(actual, 20_000)) == pytest.approx(actual, rel=0.03)


@pytest.mark.parametrize(("actual", "bound"), [(0.05, MIN_TEMPERATURE), (30.0, MAX_TEMPERATURE)])
def test_a_temperature_stays_within_its_bounds(actual: float, bound: float) -> None:
    """A few lucky examples must not make a model arbitrarily certain."""
    assert fit_temperature(*drawn(actual, 2_000)) == bound


def test_the_order_of_the_examples_does_not_matter_to_the_temperature() -> None:
    """The fit is deterministic."""
    logits, labels = drawn(1.7, 5_000)
    assert fit_temperature(logits[::-1], labels[::-1]) == fit_temperature(logits, labels)


def test_a_fitted_temperature_calibrates_digits_that_the_fit_did_not_use() -> None:
    """The error falls from above 10 % to below 2 %."""
    logits, labels = drawn(2.5, 8_000)
    temperature = fit_temperature(logits[:4_000], labels[:4_000])
    held_out, held_out_labels = logits[4_000:], labels[4_000:]
    before, after = (reliability(softmax(held_out, t), held_out_labels).error for t in (1.0, temperature))
    assert before > 0.1
    assert after < 0.02


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.empty((0, 10)), np.empty(0, int)),
        (np.zeros((4, 10)), np.zeros(3, int)),
        (np.zeros((4, 10)), np.full(4, 10)),
        (np.full((4, 10), np.inf), np.zeros(4, int)),
    ],
    ids=["empty", "shapes", "label", "infinite"],
)
def test_invalid_scores_and_labels_are_refused(
    logits: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    """By the fit of the temperature and by the bins."""
    with pytest.raises(Permanent):
        fit_temperature(logits, labels)
    with pytest.raises(Permanent):
        reliability(logits, labels)


# --- reliability


def test_every_example_falls_into_one_bin() -> None:
    """There are 15 bins, with 16 edges."""
    logits, labels = drawn(1.0, 3_000)
    bins = reliability(softmax(logits, 1.0), labels)
    assert (len(bins.counts), len(bins.edges), sum(bins.counts)) == (15, 16, 3_000)


def test_a_bin_includes_its_upper_edge_and_has_its_mean_confidence_and_accuracy() -> None:
    """Computed by hand for two bins."""
    probabilities = np.array([[0.5, 0.5], [0.8, 0.2], [1.0, 0.0], [0.9, 0.1]])
    bins = reliability(probabilities, np.array([0, 0, 0, 1]), bins=2)
    assert bins.counts == (1, 3)
    assert bins.confidence == (0.5, pytest.approx(0.9))
    assert bins.accuracy == (1.0, pytest.approx(2 / 3))


def test_an_empty_bin_has_neither_confidence_nor_accuracy() -> None:
    """None is not 0."""
    bins = reliability(np.array([[1.0, 0.0]]), np.array([0]), bins=4)
    assert bins.confidence == (None, None, None, 1.0)
    assert bins.accuracy == (None, None, None, 1.0)


def test_calibrated_probabilities_have_hardly_any_error() -> None:
    """Only that of chance."""
    logits, labels = drawn(1.0, 50_000)
    assert reliability(softmax(logits, 1.0), labels).error < 0.01


@pytest.mark.parametrize("count", [100, 1_000])
def test_the_error_of_calibrated_probabilities_is_the_chance_error(count: int) -> None:
    """On average over many draws of labels from the probabilities themselves."""
    generator = np.random.default_rng(3)
    errors, expected = [], []
    for _ in range(200):
        probabilities = generator.dirichlet([0.05] * 10, count)
        labels = (probabilities.cumsum(1) < generator.random((count, 1))).sum(1).clip(max=9)
        found = reliability(probabilities, labels)
        errors.append(found.error)
        expected.append(found.chance_error)
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.1)
