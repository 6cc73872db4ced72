"""What is no digit is flagged, and digits are kept."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.local.sample_digits import load
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.abstention import Abstention, fit_abstention
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.models.trained_model import TrainedModel
from tests.support import non_digits
from tests.support.detector import Detector, make_detector

# Small batches move far in few epochs; chosen on the development set of non-digits.
QUICK = TrainingConfig(
    epochs=12,
    batch_size=32,
    learning_rate=0.01,
    weight_decay=0.1,
    shift=2,
    zoom=0.15,
    elastic=0,
    averaging=0.99,
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A network of twenty seconds, and the abstention fitted for it: on digits alone."""
    return make_detector(Examples(*load("train")), QUICK)


@pytest.fixture(scope="module")
def others() -> dict[str, NDArray[np.uint8]]:
    """1,000 pictures that are no digits, by kind; no network and no threshold has seen them."""
    return non_digits.draw_set(non_digits.TEST, 1_000, non_digits.TEST_SEED)


def test_four_of_five_pictures_that_are_no_digits_are_flagged(
    detector: Detector, others: dict[str, NDArray[np.uint8]]
) -> None:
    """Letters, scribbles, textures, photographs, blank and noise; those that look like digits included."""
    flags = np.concatenate([detector.flagged(images) for images in others.values()])
    assert len(flags) >= 1_000
    assert flags.mean() >= 0.8


@pytest.mark.parametrize("kind", ["textures", "photographs", "blank", "noise"])
def test_hardly_a_picture_without_strokes_is_taken_for_a_digit(
    detector: Detector, others: dict[str, NDArray[np.uint8]], kind: str
) -> None:
    """A network may be very sure of them."""
    assert detector.flagged(others[kind]).mean() >= 0.9


def test_digits_that_nothing_was_fitted_on_are_kept(detector: Detector) -> None:
    """About 95 % of them: the threshold was set on 1,000 others."""
    images, _ = load("test")
    assert detector.flagged(images).mean() <= 0.075


def test_digits_from_other_hands_and_scanners_are_kept(detector: Detector) -> None:
    """The score judges what a picture shows, not how it was drawn: large, dark on light, with a pen."""
    images, _ = load("test")
    for draw in (non_digits.pasted(images), non_digits.written(non_digits.DIGITS)):
        assert detector.flagged(non_digits.pictures(draw, 400, 1)).mean() <= 0.15


def test_the_threshold_keeps_95_per_cent_of_the_validation_fold(
    abstention: Abstention, trained: TrainedModel, validation: Examples
) -> None:
    """And is no higher than that needs."""
    scores = abstention.scores(validation.images, trained_logits(trained, validation.images))
    assert scores.dtype == np.float32
    kept = scores <= abstention.threshold
    assert kept.mean() >= 0.95
    assert (scores < abstention.threshold).mean() < 0.95


def test_a_usual_digit_scores_about_nought(
    abstention: Abstention, trained: TrainedModel, validation: Examples
) -> None:
    """The scale is that of the validation fold: 1 is rare in each of the two measures."""
    scores = abstention.scores(validation.images, trained_logits(trained, validation.images))
    assert abs(np.median(scores)) < 0.5


def test_certainty_excuses_nothing(abstention: Abstention) -> None:
    """A network that is sure of noise does not make a digit of it."""
    noise = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)
    sure = np.zeros((10, 10), np.float32)
    sure[:, 8] = 1_000
    assert (abstention.scores(noise, sure) > abstention.threshold).all()


def test_scores_do_not_depend_on_the_neighbours(
    abstention: Abstention, trained: TrainedModel, validation: Examples
) -> None:
    """One by one or together."""
    logits = trained_logits(trained, validation.images)
    together = abstention.scores(validation.images, logits)
    alone = [
        abstention.scores(validation.images[at : at + 1], logits[at : at + 1])[0] for at in range(0, 300, 30)
    ]
    np.testing.assert_allclose(alone, together[::30], atol=1e-5)
    assert abstention.scores(validation.images[:0], logits[:0]).shape == (0,)


def test_the_same_folds_give_the_same_bytes(
    abstention: Abstention, trained: TrainedModel, training: Examples, validation: Examples
) -> None:
    """Fitting has no chance in it, and reading them back loses nothing."""
    again = fit_abstention(training, validation.images, trained_logits(trained, validation.images))
    assert again.to_bytes() == abstention.to_bytes()
    assert Abstention.of_bytes(again.to_bytes()).to_bytes() == again.to_bytes()


def test_a_class_without_training_digits_is_judged_all_the_same(
    trained: TrainedModel, training: Examples, validation: Examples
) -> None:
    """By what digits in general look like."""
    some = training.labels != 7
    lacking = Examples(training.images[some], training.labels[some])
    logits = trained_logits(trained, validation.images)
    abstention = fit_abstention(lacking, validation.images, logits)
    scores = abstention.scores(validation.images, logits)
    assert np.isfinite(scores).all()
    assert (scores[validation.labels == 7] <= abstention.threshold).mean() > 0.7


def test_one_digit_is_enough_to_fit_and_none_is_not(trained: TrainedModel, training: Examples) -> None:
    """A fold without spread is no error; an empty one is."""
    one = training.images[:1]
    logits = trained_logits(trained, one)
    assert np.isfinite(fit_abstention(training, one, logits).threshold)
    with pytest.raises(Permanent, match="fold is empty"):
        fit_abstention(training, one[:0], logits[:0])


@pytest.mark.parametrize(
    "changes",
    [{"threshold": float("nan")}, {"means": np.zeros((10, 7), np.float32)}, {"scales": np.zeros((2, 2))}],
)
def test_numbers_that_cannot_be_are_refused(abstention: Abstention, changes: dict[str, object]) -> None:
    """A score of NaN is over no threshold, and everything would be a digit."""
    with pytest.raises(Permanent, match="abstention: "):
        replace(abstention, **changes)  # type: ignore[arg-type]
