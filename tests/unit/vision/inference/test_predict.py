"""From encoded images to answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.review import ReviewReason
from mnist_ops.local.sample_digits import png
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.classifier import Classifier, Predictions, load_classifier
from mnist_ops.vision.inference.predict import Answer, predict_payloads


class Fixed:
    """Gives all digits the same probabilities, and takes all or none of them for digits."""

    labels = DIGITS.names

    def __init__(self, probabilities: Sequence[float], *, not_a_digit: bool = False) -> None:
        self._row, self._not_a_digit = probabilities, not_a_digit

    def predict(self, images: NDArray[np.uint8]) -> Predictions:
        """The same prediction for each."""
        count = len(images)
        flags = np.full(count, self._not_a_digit)
        return Predictions(np.array([self._row] * count, np.float32), flags.astype(np.float32), flags)


SURE_OF_TWO = (0, 0, 1, 0, 0, 0, 0, 0, 0, 0)


def test_answers_have_the_label_of_the_most_probable_class(held_out: Examples) -> None:
    """With its index, its confidence and all probabilities."""
    (answer,) = predict_payloads([png(held_out.images[0])], Fixed((0.25, 0, 0.75, *[0] * 7)), 0.5)
    assert isinstance(answer, Answer)
    assert (answer.label, answer.index, answer.confidence) == ("two", 2, 0.75)
    assert answer.probabilities == [0.25, 0, 0.75, 0, 0, 0, 0, 0, 0, 0]
    assert answer.review_reason is None
    assert not answer.needs_review


def test_answers_hold_what_the_network_saw(held_out: Examples) -> None:
    """The digit after decoding."""
    (answer,) = predict_payloads([png(held_out.images[3])], Fixed(SURE_OF_TWO), 0.9)
    assert isinstance(answer, Answer)
    np.testing.assert_array_equal(answer.digit, held_out.images[3])


@pytest.mark.parametrize(
    ("classifier", "reason"),
    [
        (Fixed((0.4, 0, 0.6, *[0] * 7)), ReviewReason.LOW_CONFIDENCE),
        (Fixed(SURE_OF_TWO, not_a_digit=True), ReviewReason.NOT_A_DIGIT),
    ],
)
def test_answers_say_why_a_person_should_look(
    held_out: Examples, classifier: Fixed, reason: ReviewReason
) -> None:
    """As the records of the batch pipeline do."""
    (answer,) = predict_payloads([png(held_out.images[0])], classifier, 0.9)
    assert isinstance(answer, Answer)
    assert (answer.needs_review, answer.review_reason) == (True, reason)


def test_a_bad_image_is_a_value_at_its_place(held_out: Examples) -> None:
    """The others are answered."""
    good = png(held_out.images[0])
    results = predict_payloads([good, b"text", good, good[:60]], Fixed(SURE_OF_TWO), 0.9)
    reasons = [result.reason if isinstance(result, ItemRejected) else None for result in results]
    assert reasons == [None, Reason.NOT_AN_IMAGE, None, Reason.UNREADABLE_IMAGE]


class Untouched:
    """Fails when it is asked."""

    labels = DIGITS.names

    def predict(self, images: NDArray[np.uint8]) -> Predictions:
        """There is nothing to classify."""
        raise AssertionError(f"{len(images)} images reached the classifier")


@pytest.mark.parametrize("payloads", [[], [b"", b"text"]])
def test_without_a_readable_image_the_classifier_is_not_asked(payloads: list[bytes]) -> None:
    """No image, or only bad ones: every result is a rejection."""
    results = predict_payloads(payloads, Untouched(), 0.9)
    assert [type(result) for result in results] == [ItemRejected] * len(payloads)


@pytest.fixture(scope="module")
def classifier(released: Path) -> Classifier:
    """The released bundle on CPU."""
    return load_classifier(released)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65])
def test_a_prediction_has_the_same_bits_in_any_batch(
    classifier: Classifier, held_out: Examples, size: int
) -> None:
    """Probabilities and scores: a product of matrices may round otherwise when it has other rows."""
    images = held_out.images[:130]
    together = classifier.predict(images)
    apart = [classifier.predict(images[start : start + size]) for start in range(0, len(images), size)]
    for name in ("probabilities", "scores"):
        joined = np.concatenate([getattr(predictions, name) for predictions in apart])
        assert joined.tobytes() == getattr(together, name).tobytes()
