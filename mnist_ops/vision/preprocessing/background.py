"""Tell a picture's ink from its paper, whose light may slant and which may be noisy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FAINTEST_INK = 24  # grey levels between paper and ink under which there is nothing but noise

_LINE = 48  # pixels of a line along the edge through which the plane is laid
_ROUNDS = 6  # of weighing them anew
_RIDGE = 1e-6 * np.eye(3)  # where a picture is one pixel wide, no plane is the only one
_SLOPE = 4.0  # grey levels between two edges from which on the light slants
_MOST_NOISE = 24.0  # grey levels of standard deviation; an edge more uneven than that is no paper
_ROWS = 512  # flattened at once, so that a large picture takes little memory


def border(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of a frame one fourteenth of the shorter side wide, as one row."""
    width = _frame(*grey.shape)
    if min(grey.shape) <= 2 * width:
        return grey.ravel()
    middle = grey[width:-width]
    parts = (grey[:width], grey[-width:], middle[:, :width], middle[:, -width:])
    return np.concatenate([part.ravel() for part in parts])


def border_sums(greys: NDArray[np.uint8]) -> tuple[int, NDArray[np.int64]]:
    """How many pixels `border` has, and their sum in each of uint8 (N, H, W)."""
    _, height, width = greys.shape
    frame = _frame(height, width)
    within = greys[:, frame:-frame, frame:-frame]
    if 0 in within.shape[1:]:
        return height * width, _sums(greys)
    return height * width - within[0].size, _sums(greys) - _sums(within)


def _sums(greys: NDArray[np.uint8]) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = greys.sum(axis=(1, 2), dtype=np.int64)
    return sums


@dataclass(frozen=True, slots=True)
class Paper:
    """A plane through the grey levels along a picture's edge.

    Attributes:
        middle: its level in the picture's middle.
        down: what is added between the top edge and the bottom edge.
        across: what is added between the left edge and the right edge.
        noise: standard deviation of the edge around the plane, grey levels.
    """

    middle: float
    down: float
    across: float
    noise: float

    @classmethod
    def under(cls, grey: NDArray[np.uint8]) -> Self:
        """Lay the plane by least absolute deviations, so that ink which touches the edge does not tilt it.

        The deviations are minimised by weighted least squares. Source: E. J. Schlossmacher, "An iterative
        technique for absolute deviations curve fitting", JASA 68, 1973.
        """
        rows, columns = _edge(*grey.shape)
        levels = grey[rows, columns].astype(np.float64)
        median = float(np.median(border(grey)))
        if np.ptp(levels) < _SLOPE:
            return cls(median, 0.0, 0.0, 0.0)
        height, width = grey.shape
        at = np.stack([np.ones(len(rows)), (rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5])
        plane = np.array([median, 0.0, 0.0])
        for _ in range(_ROUNDS):
            weighed = at / np.maximum(1.0, np.abs(levels - plane @ at))
            plane = np.linalg.solve(weighed @ at.T + _RIDGE, weighed @ levels)
        if np.abs(plane[1:]).sum() < _SLOPE:
            plane = np.array([median, 0.0, 0.0])
        # 1.4826 makes a median deviation a standard deviation, where the noise is normal.
        noise = 1.4826 * float(np.median(np.abs(levels - plane @ at)))
        middle, down, across = map(float, plane)
        return cls(middle, down, across, min(noise, _MOST_NOISE))

    @property
    def slants(self) -> bool:
        """Whether the paper is lighter at one edge than at another."""
        return bool(self.down or self.across)

    def levels(self, rows: range, height: int, width: int) -> NDArray[np.float32]:
        """The plane under some rows of a picture of that size, (len(rows), width)."""
        down = ((np.arange(rows.start, rows.stop) + 0.5) / height - 0.5) * self.down + self.middle
        across = ((np.arange(width) + 0.5) / width - 0.5) * self.across
        return np.add.outer(down.astype(np.float32), across.astype(np.float32))


def lift(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Take the paper away: the ink uint8 (H, W) on 0, and the noise that is left of the paper.

    What stands out more from the paper is the ink, whether lighter or darker.
    """
    paper = Paper.under(grey)
    least = max(FAINTEST_INK, 4 * paper.noise)
    off = _flattened(grey, paper) if paper.slants else np.rint(np.arange(256) - paper.middle).astype(np.int16)
    often = 1 if paper.slants else np.array(Image.fromarray(grey).histogram())
    lighter = int((off * (off >= least) * often).sum(dtype=np.int64))
    darker = -int((off * (off <= -least) * often).sum(dtype=np.int64))
    if darker > lighter:
        np.negative(off, out=off)
    ink = off.clip(0, 255, out=off).astype(np.uint8)
    return (ink if paper.slants else ink[grey]), paper.noise


def _flattened(grey: NDArray[np.uint8], paper: Paper) -> NDArray[np.int16]:
    """How far each pixel is from the paper, int16 (H, W)."""
    height, width = grey.shape
    off = np.empty(grey.shape, np.int16)
    for start in range(0, height, _ROWS):
        rows = range(start, min(start + _ROWS, height))
        off[start : rows.stop] = np.rint(grey[start : rows.stop] - paper.levels(rows, height, width))
    return off


def _frame(height: int, width: int) -> int:
    return max(1, min(height, width) // 14)


def _edge(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of pixels on lines along the four edges, at three depths of the frame."""
    deepest = _frame(height, width) - 1
    down, across = (np.linspace(0, side - 1, min(side, _LINE)).astype(np.intp) for side in (height, width))
    rows, columns = [], []
    for depth in sorted({0, deepest // 2, deepest}):
        for row in (depth, height - 1 - depth):
            rows.append(np.full(len(across), row))
            columns.append(across)
        for column in (depth, width - 1 - depth):
            rows.append(down)
            columns.append(np.full(len(down), column))
    return np.concatenate(rows), np.concatenate(columns)
