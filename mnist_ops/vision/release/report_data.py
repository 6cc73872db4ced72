"""The figures of a report as `report/report.json`, from which other pages draw their own charts."""

import base64
import binascii
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from mnist_ops.domain.errors import Damaged
from mnist_ops.validation import problems_of
from mnist_ops.vision.data.examples import CLASSES
from mnist_ops.vision.evaluation.calibration import Reliability
from mnist_ops.vision.models.trained_model import EpochMetrics

FILE = "report.json"  # beside index.html
_SHAPE = (28, 28)


@dataclass(frozen=True, slots=True)
class WorstExample:
    """A test digit with a high loss.

    Attributes:
        label: the class of its label.
        predicted: the most probable class.
        probability: the calibrated probability of its label, 0 to 1.
        image: uint8 (28, 28), ink 255, row by row, as base64.
    """

    label: NonNegativeInt
    predicted: NonNegativeInt
    probability: float
    image: str

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The image, uint8 (28, 28), ink 255.

        Raises:
            Damaged: it is not base64 of that many bytes.
        """
        try:
            return np.frombuffer(base64.b64decode(self.image, validate=True), np.uint8).reshape(_SHAPE)
        except (binascii.Error, ValueError) as error:
            raise Damaged(f"{FILE}: a worst example is no image of 28 x 28 bytes") from error


@dataclass(frozen=True, slots=True)
class ReportData:
    """What a report draws, beside what the bundle's card has.

    Attributes:
        best_step: the step whose weights were kept.
        history: one entry for each validation of the training.
        before: the test fold's confidences at temperature 1.
        after: the same at the bundle's temperature.
        worst: the test digits with the highest loss, highest first.
    """

    best_step: int
    history: tuple[EpochMetrics, ...]
    before: Reliability
    after: Reliability
    worst: tuple[WorstExample, ...]

    def __post_init__(self) -> None:
        if all(metrics.step != self.best_step for metrics in self.history):
            raise ValueError("the history has no validation at best_step")
        if any(max(each.label, each.predicted) >= CLASSES for each in self.worst):
            raise ValueError(f"a worst example has a class over {CLASSES - 1}")

    def to_json(self) -> bytes:
        """The bytes of report.json."""
        return _REPORT_DATA.dump_json(self, indent=1)


_REPORT_DATA = TypeAdapter(ReportData)


def parse_report_data(data: bytes, uri: str) -> ReportData:
    """Read back what `to_json` gave.

    Args:
        data: the bytes.
        uri: where they come from, for the error.

    Raises:
        Damaged: they are not the data of a report.
    """
    try:
        return _REPORT_DATA.validate_json(data)
    except ValidationError as error:
        raise Damaged(f"{uri}: not the data of a report: {problems_of(error)[0]}") from error


def image_text(pixels: NDArray[np.uint8]) -> str:
    """An image, uint8 (28, 28), as `WorstExample.image` has it."""
    return base64.b64encode(pixels.tobytes()).decode()
