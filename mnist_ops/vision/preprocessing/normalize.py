"""Make any grey picture of a digit look like one of MNIST's.

Source: size and centre-of-mass normalisation as in LeCun, Bottou, Bengio and Haffner, "Gradient-based
learning applied to document recognition", 1998, section III.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mnist_ops.vision.data.examples import SIDE
from mnist_ops.vision.preprocessing.background import FAINTEST_INK, border_sums, lift
from mnist_ops.vision.preprocessing.components import find_digit

# Written into every bundle's card: raise it whenever a pixel of any result could change.
PREPROCESSING_VERSION = 2

_BOX = 20  # MNIST's digits fit a box of 20 by 20 pixels
_INK = 64 / 255  # share of the way from paper to the fullest ink, from which a pixel counts as ink
# Pixels: nine in ten of MNIST's digits have wider strokes than the first, 99 in 100 than the second.
_THIN, _HAIRLINE = 1.7, 1.4
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
    upright: NDArray[np.uint8] = inks_on_black(grey[None])[0]
    return upright


def inks_on_black(greys: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same for uint8 (N, H, W)."""
    ring_size, edge = border_sums(greys)
    rest = greys.sum(axis=(1, 2), dtype=np.int64) - edge
    # Means compared crosswise in whole numbers: exact, and defined for a picture that is all border.
    left, right = edge * (greys[0].size - ring_size), rest * ring_size
    inverted = (left > right) | ((left == right) & (greys[:, 0, 0] > 127))
    return np.bitwise_xor(greys, np.where(inverted, 255, 0).astype(np.uint8)[:, None, None])


def normalise(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop to the ink, fit a 20 by 20 box keeping the aspect ratio, centre of mass to the middle of 28.

    Slanting light, noise and specks are taken off before, and hairlines made as wide as MNIST's.

    Args:
        grey: uint8 (H, W), light on dark or dark on light.

    Returns:
        uint8 (28, 28); all zero where there is no ink.
    """
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    ink, noise = lift(grey)
    seen = _smooth(ink) if noise >= 1 else ink
    peak = int(seen.max())
    faintest = 2.5 * noise
    if peak < max(FAINTEST_INK, faintest):
        return canvas
    rows, columns, clean = find_digit(seen * (seen >= max(peak * _INK, faintest)))
    digit = _fit(_stretch(ink[rows, columns] * clean, 2 * noise, peak))
    digit = _stretch(digit, 0, max(1, int(digit.max())))  # a thin stroke pales when it is made small
    top, left = (_offset(digit, axis) for axis in (0, 1))
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return _thickened(canvas)


def _smooth(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel as the mean of the nine around it."""
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.BoxBlur(1)))


def _stretch(grey: NDArray[np.uint8], black: float, white: float) -> NDArray[np.uint8]:
    """Spread the levels from `black` to `white` over 0 to 255, by a table of the 256 levels."""
    levels = (np.arange(256) - black) * (255.0 / max(1.0, white - black))
    stretched: NDArray[np.uint8] = np.rint(levels.clip(0, 255)).astype(np.uint8)[grey]
    return stretched


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


def _stroke(digit: NDArray[np.uint8]) -> float:
    """The strokes' mean width in pixels: twice the area over the length of its outline."""
    levels = digit.astype(np.float32)
    outline = np.hypot(np.diff(levels, axis=0)[:, :-1], np.diff(levels, axis=1)[:-1]).sum()
    return 2 * float(levels.sum()) / max(1.0, float(outline))


def _thickened(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hairlines half a pixel wider on either side, thin strokes by less, all others as they are."""
    share = (_THIN - _stroke(digit)) / (_THIN - _HAIRLINE)
    if share <= 0:
        return digit
    wider = min(1.0, share) * 2 * _smooth(digit).astype(np.float32)
    thickened: NDArray[np.uint8] = np.maximum(digit, np.rint(wider.clip(0, 255)).astype(np.uint8))
    return thickened
