"""Labelled digits as arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent

CLASSES = 10
SIDE = 28  # pixels; the side of a digit


@dataclass(frozen=True, slots=True)
class Examples:
    """The human-labelled digits of one fold.

    Attributes:
        images: uint8 (N, 28, 28), ink 255 on 0.
        labels: uint8 (N,), class indices 0 to 9.

    Raises:
        Permanent: the arrays have other shapes or types or different lengths, or a label is above 9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        require_digits(self.images)
        if self.labels.dtype != np.uint8 or self.labels.shape != (len(self.images),):
            raise Permanent(
                f"labels must be uint8 ({len(self.images)},), not {self.labels.dtype} {self.labels.shape}"
            )
        if self.labels.size and self.labels.max() >= CLASSES:
            raise Permanent(f"label {self.labels.max()} is outside 0..{CLASSES - 1}")

    def __len__(self) -> int:
        return len(self.images)


def require_digits(images: NDArray[np.uint8]) -> None:
    """Check that `images` is uint8 (N, 28, 28).

    Raises:
        Permanent: it has another shape or type.
    """
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise Permanent(f"images must be uint8 (N, {SIDE}, {SIDE}), not {images.dtype} {images.shape}")
