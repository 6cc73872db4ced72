"""Make any grey picture of a digit look like one of MNIST's.

Source: size and centre-of-mass normalisation as in LeCun, Bottou, Bengio and Haffner, "Gradient-based
learning applied to document recognition", 1998, section III.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.vision.examples import SIDE

# Written into every bundle's card: raise it whenever a pixel of any result could change.
PREPROCESSING_VERSION = 1

_BOX = 20  # MNIST's digits fit a box of 20 by 20 pixels
_FAINTEST_INK = 24  # grey levels between paper and ink under which there is nothing but noise
_INK = 64  # grey levels, after stretching to 255, from which a pixel counts as ink
# MNIST's centre of mass lies on the corner shared by the four middle pixels, in its own indexing.
_CENTRE = SIDE / 2


def harmonise(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring a grey picture to uint8 (28, 28), ink 255 on 0.

    A picture of 28 by 28 pixels is taken for a digit as MNIST has it: only its polarity is judged.

    Args:
        grey: uint8 (H, W), dark on light or light on dark, H and W at least 1.
    """
    ink = ink_on_black(grey)
    return ink if ink.shape == (SIDE, SIDE) else normalise(ink)


def ink_on_black(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Invert a picture whose border is brighter than its centre; an even white one is empty paper."""
    ring = _border(grey)
    border = int(ring.sum(dtype=np.int64))
    rest = int(grey.sum(dtype=np.int64)) - border
    # Means compared crosswise in whole numbers: exact, and defined for a picture that is all border.
    left, right = border * (grey.size - ring.size), rest * ring.size
    inverted = left > right or (left == right and int(ring[0]) > 127)
    return np.invert(grey) if inverted else grey


def normalise(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop to the ink, fit a 20 by 20 box keeping the aspect ratio, centre of mass to the middle of 28.

    Args:
        ink: uint8 (H, W), light on dark.

    Returns:
        uint8 (28, 28); all zero where there is no ink.
    """
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    paper = int(np.median(_border(ink)))
    peak = int(ink.max())
    if peak - paper < _FAINTEST_INK:
        return canvas
    digit = _fit(_crop(_stretch(ink, paper, peak)))
    digit = _stretch(digit, 0, max(1, int(digit.max())))  # a thin stroke pales when it is made small
    top, left = (_offset(digit, axis) for axis in (0, 1))
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return canvas


def _border(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of a frame one fourteenth of the shorter side wide, as one row."""
    width = max(1, min(grey.shape) // 14)
    if min(grey.shape) <= 2 * width:
        return grey.ravel()
    middle = grey[width:-width]
    parts = (grey[:width], grey[-width:], middle[:, :width], middle[:, -width:])
    return np.concatenate([part.ravel() for part in parts])


def _stretch(grey: NDArray[np.uint8], black: int, white: int) -> NDArray[np.uint8]:
    """Spread the levels from `black` to `white` over 0 to 255, by a table of the 256 levels."""
    levels = (np.arange(256) - black) * (255.0 / (white - black))
    stretched: NDArray[np.uint8] = np.rint(levels.clip(0, 255)).astype(np.uint8)[grey]
    return stretched


def _crop(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mask = ink >= _INK
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = ink.shape
    scale = _BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # The gap lets Pillow shrink a huge picture in whole steps first: faster, and within a grey level.
    return np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))


def _offset(digit: NDArray[np.uint8], axis: int) -> int:
    """Where the box begins on the canvas so that its centre of mass falls on the middle."""
    mass = digit.sum(axis=1 - axis, dtype=np.int64)
    centre = float((mass * np.arange(mass.size)).sum()) / max(1, int(mass.sum()))
    return int(np.clip(round(_CENTRE - centre), 0, SIDE - digit.shape[axis]))
