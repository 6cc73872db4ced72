"""Pictures that are not digits are flagged, and digits are kept."""

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

# Small batches train well in few epochs; chosen on the development set of `non_digits`.
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
    """A network trained for twenty seconds, and its abstention; both use digits alone."""
    return make_detector(Examples(*load("train")), QUICK)


@pytest.fixture(scope="module")
def others() -> dict[str, NDArray[np.uint8]]:
    """1,000 pictures that are not digits, by kind; neither training nor threshold used them."""
    return non_digits.draw_set(non_digits.TEST, 1_000, non_digits.TEST_SEED)


def test_four_of_five_pictures_that_are_not_digits_are_flagged(
    detector: Detector, others: dict[str, NDArray[np.uint8]]
) -> None:
    """Letters that look like digits are included."""
    flags = np.concatenate([detector.flagged(images) for images in others.values()])
    assert len(flags) >= 1_000
    assert flags.mean() >= 0.8


@pytest.mark.parametrize("kind", ["textures", "photographs", "blank", "noise"])
def test_nine_of_ten_pictures_without_strokes_are_flagged(
    detector: Detector, others: dict[str, NDArray[np.uint8]], kind: str
) -> None:
    """Although a network may be very certain of them."""
    assert detector.flagged(others[kind]).mean() >= 0.9


def test_held_out_digits_are_kept(detector: Detector) -> None:
    """About 95 %: the threshold was set on 1,000 other digits."""
    images, _ = load("test")
    assert detector.flagged(images).mean() <= 0.075


def test_digits_of_other_writers_and_scanners_are_kept(detector: Detector) -> None:
    """The score depends on what a picture shows, not on its size, its polarity or the pen."""
    images, _ = load("test")
    for draw in (non_digits.pasted(images), non_digits.written(non_digits.DIGITS)):
        assert detector.flagged(non_digits.pictures(draw, 400, 1)).mean() <= 0.15


def test_the_threshold_keeps_95_per_cent_of_the_validation_fold(
    abstention: Abstention, trained: TrainedModel, validation: Examples
) -> None:
    """And is no higher than necessary."""
    scores = abstention.scores(validation.images, trained_logits(trained, validation.images))
    assert scores.dtype == np.float32
    kept = scores <= abstention.threshold
    assert kept.mean() >= 0.95
    assert (scores < abstention.threshold).mean() < 0.95


def test_the_median_digit_scores_about_zero(
    abstention: Abstention, trained: TrainedModel, validation: Examples
) -> None:
    """On the validation fold, the median of both measures is 0 and their 95th percentile is 1."""
    scores = abstention.scores(validation.images, trained_logits(trained, validation.images))
    assert abs(np.median(scores)) < 0.5


def test_a_certain_network_does_not_make_noise_a_digit(abstention: Abstention) -> None:
    """Certainty does not lower the score below that of a median digit."""
    noise = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)
    sure = np.zeros((10, 10), np.float32)
    sure[:, 8] = 1_000
    assert (abstention.scores(noise, sure) > abstention.threshold).all()


def test_scores_do_not_depend_on_the_other_pictures(
    abstention: Abstention, trained: TrainedModel, validation: Examples
) -> None:
    """One by one or in a batch."""
    logits = trained_logits(trained, validation.images)
    together = abstention.scores(validation.images, logits)
    alone = [
        abstention.scores(validation.images[index : index + 1], logits[index : index + 1])[0]
        for index in range(0, 300, 30)
    ]
    np.testing.assert_allclose(alone, together[::30], atol=1e-5)
    assert abstention.scores(validation.images[:0], logits[:0]).shape == (0,)


def test_the_same_folds_give_the_same_bytes(
    abstention: Abstention, trained: TrainedModel, training: Examples, validation: Examples
) -> None:
    """Fitting is deterministic, and writing and reading keeps every bit."""
    again = fit_abstention(training, validation.images, trained_logits(trained, validation.images))
    assert again.to_bytes() == abstention.to_bytes()
    assert Abstention.from_bytes(again.to_bytes()).to_bytes() == again.to_bytes()


def test_a_class_without_training_digits_gets_scores(
    trained: TrainedModel, training: Examples, validation: Examples
) -> None:
    """From the mean and covariance of all digits."""
    some = training.labels != 7
    lacking = Examples(training.images[some], training.labels[some])
    logits = trained_logits(trained, validation.images)
    abstention = fit_abstention(lacking, validation.images, logits)
    scores = abstention.scores(validation.images, logits)
    assert np.isfinite(scores).all()
    assert (scores[validation.labels == 7] <= abstention.threshold).mean() > 0.7


def test_one_digit_is_enough_to_fit_and_none_is_not(trained: TrainedModel, training: Examples) -> None:
    """A fold without variance is accepted; an empty one is not."""
    one = training.images[:1]
    logits = trained_logits(trained, one)
    assert np.isfinite(fit_abstention(training, one, logits).threshold)
    with pytest.raises(Permanent, match="fold is empty"):
        fit_abstention(training, one[:0], logits[:0])


@pytest.mark.parametrize(
    "changes",
    [{"threshold": float("nan")}, {"means": np.zeros((10, 7), np.float32)}, {"scales": np.zeros((2, 2))}],
)
def test_invalid_numbers_are_refused(abstention: Abstention, changes: dict[str, object]) -> None:
    """A score of NaN is above no threshold, so every picture would be a digit."""
    with pytest.raises(Permanent, match="abstention: "):
        replace(abstention, **changes)  # type: ignore[arg-type]
