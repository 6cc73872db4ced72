"""Separate a picture's ink from its background, which may be unevenly lit and noisy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MIN_CONTRAST = 24  # grey levels between background and ink; less than that is noise

_LINE_SAMPLES = 48  # pixels sampled along each line that the plane is fitted to
_ITERATIONS = 6  # of the reweighted least squares
_RIDGE = 1e-6 * np.eye(3)  # keeps the fit solvable where a picture is one pixel wide
_MIN_GRADIENT = 4.0  # grey levels between two opposite edges; less counts as even light
_MAX_NOISE = 24.0  # grey levels of standard deviation; a more uneven edge is not background alone
_ROWS_AT_A_TIME = 512  # subtracted at a time, so that a large picture takes little memory


def border(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of the border as one row."""
    width = border_width(*grey.shape)
    if min(grey.shape) <= 2 * width:
        return grey.ravel()
    middle = grey[width:-width]
    parts = (grey[:width], grey[-width:], middle[:, :width], middle[:, -width:])
    return np.concatenate([part.ravel() for part in parts])


def border_width(height: int, width: int) -> int:
    """The width in pixels of the frame that counts as a picture's border: 1/14 of the shorter side."""
    return max(1, min(height, width) // 14)


@dataclass(frozen=True, slots=True)
class Background:
    """A background model: a plane fitted to the grey levels along a picture's edge.

    Attributes:
        middle: the plane's grey level in the middle of the picture.
        down: the change in grey level from the top edge to the bottom edge.
        across: the change in grey level from the left edge to the right edge.
        noise: standard deviation of the edge's pixels around the plane, in grey levels.
    """

    middle: float
    down: float
    across: float
    noise: float

    @classmethod
    def fit(cls, grey: NDArray[np.uint8]) -> Self:
        """Fit the plane by least absolute deviations, so that ink that touches the edge does not tilt it.

        The minimum is found by iteratively reweighted least squares. Source: E. J. Schlossmacher, "An
        iterative technique for absolute deviations curve fitting", JASA 68, 1973.
        """
        rows, columns = _edge_samples(*grey.shape)
        levels = grey[rows, columns].astype(np.float64)
        median = float(np.median(border(grey)))
        if np.ptp(levels) < _MIN_GRADIENT:
            return cls(median, 0.0, 0.0, 0.0)
        height, width = grey.shape
        design = np.stack([np.ones(len(rows)), (rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5])
        plane = np.array([median, 0.0, 0.0])
        for _ in range(_ITERATIONS):
            weighted = design / np.maximum(1.0, np.abs(levels - plane @ design))
            plane = np.linalg.solve(weighted @ design.T + _RIDGE, weighted @ levels)
        if np.abs(plane[1:]).sum() < _MIN_GRADIENT:
            plane = np.array([median, 0.0, 0.0])
        # The factor turns a median absolute deviation of normal noise into its standard deviation.
        noise = 1.4826 * float(np.median(np.abs(levels - plane @ design)))
        middle, down, across = map(float, plane)
        return cls(middle, down, across, min(noise, _MAX_NOISE))

    def levels(self, rows: range, height: int, width: int) -> NDArray[np.float32]:
        """The background's grey levels in some rows of a picture of height x width, (len(rows), width)."""
        down = ((np.arange(rows.start, rows.stop) + 0.5) / height - 0.5) * self.down + self.middle
        across = ((np.arange(width) + 0.5) / width - 0.5) * self.across
        return np.add.outer(down.astype(np.float32), across.astype(np.float32))


def subtract_background(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return the ink, uint8 (H, W) on 0, and the standard deviation of the noise that remains.

    Ink may be lighter or darker than the background: the side with the larger sum of differences is the ink.
    """
    background = Background.fit(grey)
    threshold = max(MIN_CONTRAST, 4 * background.noise)
    has_gradient = bool(background.down or background.across)
    # Without a gradient, the 256 possible grey levels and their counts are enough.
    counts: int | NDArray[np.int64] = 1
    if has_gradient:
        difference = _difference(grey, background)
    else:
        difference = np.rint(np.arange(256) - background.middle).astype(np.int16)
        counts = np.array(Image.fromarray(grey).histogram(), np.int64)
    lighter = int((difference * (difference >= threshold) * counts).sum(dtype=np.int64))
    darker = -int((difference * (difference <= -threshold) * counts).sum(dtype=np.int64))
    if darker > lighter:
        np.negative(difference, out=difference)
    ink = difference.clip(0, 255, out=difference).astype(np.uint8)
    return (ink if has_gradient else ink[grey]), background.noise


def _difference(grey: NDArray[np.uint8], background: Background) -> NDArray[np.int16]:
    """Each pixel's grey level minus the background's, int16 (H, W)."""
    height, width = grey.shape
    difference = np.empty(grey.shape, np.int16)
    for start in range(0, height, _ROWS_AT_A_TIME):
        rows = range(start, min(start + _ROWS_AT_A_TIME, height))
        levels = background.levels(rows, height, width)
        difference[start : rows.stop] = np.rint(grey[start : rows.stop] - levels)
    return difference


def _edge_samples(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of pixels on lines along the four edges, at three depths of the border."""
    deepest = border_width(height, width) - 1
    down, across = (
        np.linspace(0, side - 1, min(side, _LINE_SAMPLES)).astype(np.intp) for side in (height, width)
    )
    rows, columns = [], []
    for depth in sorted({0, deepest // 2, deepest}):
        for row in (depth, height - 1 - depth):
            rows.append(np.full(len(across), row))
            columns.append(across)
        for column in (depth, width - 1 - depth):
            rows.append(down)
            columns.append(np.full(len(down), column))
    return np.concatenate(rows), np.concatenate(columns)
