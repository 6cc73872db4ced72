"""Temperature and reliability: what the probabilities promise, and what comes true."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.evaluation.calibration import COOLEST, HOTTEST, fit_temperature, nll_at, reliability
from mnist_ops.vision.inference.classifier import softmax

LOGITS = arrays(np.float32, st.tuples(st.integers(1, 40), st.just(10)), elements=st.floats(-60, 60, width=32))


def drawn(temperature: float, samples: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits, and labels that come true as softmax(logits / temperature) says."""
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
    """Whatever the logits and however wrong the labels."""
    labels = np.random.default_rng(seed).integers(0, 10, len(logits))
    fitted = fit_temperature(logits, labels)
    assert COOLEST <= fitted <= HOTTEST
    assert nll_at(logits, labels, fitted) <= nll_at(logits, labels, 1.0)


@given(LOGITS, st.floats(COOLEST, HOTTEST))
def test_a_temperature_never_changes_the_likeliest_class(
    logits: NDArray[np.float32], temperature: float
) -> None:
    """It keeps its rank; only what a float32 cannot tell apart may tie."""
    probabilities = softmax(logits, temperature)
    chosen = probabilities[np.arange(len(logits)), logits.argmax(axis=1)]
    assert (chosen == probabilities.max(axis=1)).all()


@pytest.mark.parametrize("planted", [0.5, 1.0, 1.7, 3.0])
def test_a_planted_temperature_is_found_again(planted: float) -> None:
    """From labels that were drawn at that temperature."""
    assert fit_temperature(*drawn(planted, 20_000)) == pytest.approx(planted, rel=0.03)


@pytest.mark.parametrize(("planted", "bound"), [(0.05, COOLEST), (30.0, HOTTEST)])
def test_a_temperature_stays_within_its_bounds(planted: float, bound: float) -> None:
    """A few lucky examples must not make a model boundlessly sure."""
    assert fit_temperature(*drawn(planted, 2_000)) == bound


def test_the_order_of_the_examples_does_not_matter_to_the_temperature() -> None:
    """Nor does anything else that is not in the data."""
    logits, labels = drawn(1.7, 5_000)
    assert fit_temperature(logits[::-1], labels[::-1]) == fit_temperature(logits, labels)


def test_overconfident_probabilities_are_mended_on_digits_that_the_fit_never_saw() -> None:
    """The error falls from over 10 % to under 2 %."""
    logits, labels = drawn(2.5, 8_000)
    temperature = fit_temperature(logits[:4_000], labels[:4_000])
    held_out, truth = logits[4_000:], labels[4_000:]
    before, after = (reliability(softmax(held_out, t), truth).error for t in (1.0, temperature))
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
def test_what_cannot_be_calibrated_is_refused(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    """Neither a temperature nor bins are made up."""
    with pytest.raises(Permanent):
        fit_temperature(logits, labels)
    with pytest.raises(Permanent):
        reliability(logits, labels)


# --- reliability


def test_every_example_falls_into_one_bin() -> None:
    """Of 15, with 16 edges."""
    logits, labels = drawn(1.0, 3_000)
    bins = reliability(softmax(logits, 1.0), labels)
    assert (len(bins.counts), len(bins.edges), sum(bins.counts)) == (15, 16, 3_000)


def test_a_bin_has_its_upper_edge_and_tells_its_mean_confidence_and_accuracy() -> None:
    """By hand, with two bins."""
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


def test_probabilities_that_come_true_have_no_error() -> None:
    """But for what chance makes of it."""
    logits, labels = drawn(1.0, 50_000)
    assert reliability(softmax(logits, 1.0), labels).error < 0.01


@pytest.mark.parametrize("count", [100, 1_000])
def test_exactly_right_probabilities_err_as_much_as_chance_explains(count: int) -> None:
    """On the mean of many draws of labels from the probabilities themselves."""
    generator = np.random.default_rng(3)
    errors, expected = [], []
    for _ in range(200):
        probabilities = generator.dirichlet([0.05] * 10, count)
        labels = (probabilities.cumsum(1) < generator.random((count, 1))).sum(1).clip(max=9)
        found = reliability(probabilities, labels)
        errors.append(found.error)
        expected.append(found.chance_error)
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.1)
