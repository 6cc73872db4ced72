"""From encoded images to predictions: the one path that the batch step, the command line and REST share.

The same bytes give the same bits, whatever other images are given with them: every step works row by row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.review import ReviewReason, review_reason
from mnist_ops.vision.inference.classifier import Predictions
from mnist_ops.vision.preprocessing.decode import Digit, decode_all

Decode = Callable[[Sequence[bytes]], tuple[NDArray[np.uint8], Mapping[int, ItemRejected]]]
Predict = Callable[[NDArray[np.uint8]], Predictions]


class Classifier(Protocol):
    """What classifies digits: a loaded bundle."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by index."""

    def predict(self, images: NDArray[np.uint8]) -> Predictions:
        """The predictions for digits uint8 (N, 28, 28), ink 255 on 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """What became of N encoded images.

    Attributes:
        positions: of the M images that could be decoded, ascending.
        digits: these, uint8 (M, 28, 28), ink 255 on 0.
        predictions: for these; None if there are none.
        rejected: why the others could not be decoded, by position.
    """

    positions: Sequence[int]
    digits: NDArray[np.uint8]
    predictions: Predictions | None
    rejected: Mapping[int, ItemRejected]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The prediction for one image.

    Attributes:
        label: the name of the most probable class.
        index: its index.
        confidence: its probability, 0 to 1.
        probabilities: of all classes, by index.
        review_reason: why a person should look at it; None if nobody need.
        digit: what the network saw, uint8 (28, 28), ink 255 on 0.
    """

    label: str
    index: int
    confidence: float
    probabilities: Sequence[float]
    review_reason: ReviewReason | None
    digit: Digit

    @property
    def needs_review(self) -> bool:
        """Whether a person should look at it."""
        return self.review_reason is not None


def classify_payloads(payloads: Sequence[bytes], predict: Predict, decode: Decode = decode_all) -> Classified:
    """Decode images, and classify those that could be decoded.

    Args:
        payloads: N encoded images.
        predict: gives the predictions for digits; called once, or not at all if no image can be decoded.
        decode: decodes them as `decode_all` does.

    Raises:
        Permanent: as `Classifier.predict`.
    """
    digits, rejected = decode(payloads)
    positions: Sequence[int] = range(len(payloads))
    if rejected:
        positions = [position for position in positions if position not in rejected]
        digits = digits[positions]
    return Classified(positions, digits, predict(digits) if positions else None, rejected)


def predict_payloads(
    payloads: Sequence[bytes], classifier: Classifier, review_below: float
) -> list[Answer | ItemRejected]:
    """Predict the label of each encoded image; one that cannot be decoded gives its reason.

    Args:
        payloads: N encoded images.
        classifier: a loaded bundle.
        review_below: a prediction with less confidence than this, 0 to 1, is marked for review.

    Returns:
        N results, in order.

    Raises:
        Permanent: as `Classifier.predict`.
    """
    classified = classify_payloads(payloads, classifier.predict)
    results: list[Answer | ItemRejected | None] = [
        classified.rejected.get(position) for position in range(len(payloads))
    ]
    if classified.predictions is not None:
        answers = _answers(classified.predictions, classified.digits, classifier.labels, review_below)
        for position, answer in zip(classified.positions, answers, strict=True):
            results[position] = answer
    return [result for result in results if result is not None]


def _answers(
    predictions: Predictions, digits: NDArray[np.uint8], labels: Sequence[str], review_below: float
) -> list[Answer]:
    indices = predictions.probabilities.argmax(axis=1).tolist()
    rows = zip(
        indices, predictions.probabilities.tolist(), predictions.not_a_digit.tolist(), digits, strict=True
    )
    return [
        Answer(
            label=labels[index],
            index=index,
            confidence=probabilities[index],
            probabilities=probabilities,
            review_reason=review_reason(
                probabilities[index], not_a_digit=not_a_digit, review_below=review_below
            ),
            digit=digit,
        )
        for index, probabilities, not_a_digit, digit in rows
    ]
