"""The smallest data set that can be trained on, released, and compared with a champion."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_ops.vision.data.folds import HELD_OUT_SHARE, Fold

MIN_GOLDEN = 20  # golden samples of a bundle; they are chosen from the validation fold


@dataclass(frozen=True, slots=True)
class Minimums:
    """How many usable examples the steps after the data set need.

    Attributes:
        test: in the test fold: on fewer examples the gate never finds a challenger better than the champion.
        validation: in the validation fold: the golden samples of a bundle are chosen from it.
        of_each_label: in the train fold: a network hardly ever predicts a class that it has not seen.
    """

    test: int
    validation: int = MIN_GOLDEN
    of_each_label: int = 1

    def shortfalls(
        self, folds: Mapping[str, int], trained_on: Mapping[str, int], labels: Sequence[str]
    ) -> list[str]:
        """What a data set has too few of, with the numbers, and what to do; nothing if it is large enough.

        Args:
            folds: examples by fold.
            trained_on: examples of the train fold by label.
            labels: all labels.
        """
        validation, test = folds.get(Fold.VALIDATION, 0), folds.get(Fold.TEST, 0)
        rare = ", ".join(label for label in labels if trained_on.get(label, 0) < self.of_each_label)
        missing = max(self.validation - validation, self.test - test)
        lines = []
        if validation < self.validation:
            lines.append(
                f"validation fold: {validation}, a bundle's golden samples need at least {self.validation}"
            )
        if test < self.test:
            lines.append(f"test fold: {test}, the gate needs at least {self.test} to compare two models")
        if rare:
            lines.append(f"train fold: fewer than {self.of_each_label} of {rare}")
        if missing > 0:
            lines.append(f"Label about {math.ceil(missing / HELD_OUT_SHARE)} more records.")
        if rare:
            lines.append(f"Label more records of {rare}.")
        return lines
