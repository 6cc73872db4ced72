"""Convert a grey picture of a digit to the form of MNIST's digits.

Source: size and centre-of-mass normalisation as in LeCun, Bottou, Bengio and Haffner, "Gradient-based
learning applied to document recognition", 1998, section III.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mnist_ops.vision.data.examples import SIDE
from mnist_ops.vision.preprocessing.background import MIN_CONTRAST, border_width, subtract_background
from mnist_ops.vision.preprocessing.components import find_digit

# Recorded in every bundle's card. Increase it with every change that can change a pixel of any result.
PREPROCESSING_VERSION = 2

_BOX = 20  # pixels; MNIST's digits fit a box of 20 by 20
_MIN_INK = 64 / 255  # of the strongest ink; weaker pixels do not count as ink
# Stroke widths in pixels: 90 % of MNIST's digits have wider strokes than the first, 99 % than the second.
_THIN, _HAIRLINE = 1.7, 1.4
# MNIST's centre of mass is at the corner shared by the four middle pixels, in its own indexing.
_CENTRE = SIDE / 2


def harmonise(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert a grey picture to uint8 (28, 28), ink 255 on 0.

    A picture of 28 by 28 pixels is assumed to be a digit in MNIST's form: only its polarity is corrected.

    Args:
        grey: uint8 (H, W), dark on light or light on dark, H and W at least 1.
    """
    (ink,) = ink_on_black(grey[None])
    return ink if ink.shape == (SIDE, SIDE) else normalise(ink)


def ink_on_black(greys: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Invert those of pictures uint8 (N, H, W) whose border is brighter than the centre, or evenly bright."""
    width = border_width(*greys.shape[1:])
    inner = greys[:, width:-width, width:-width]
    centre = inner.sum(axis=(1, 2), dtype=np.int64)
    border = greys.sum(axis=(1, 2), dtype=np.int64) - centre
    # The means are compared by cross-multiplication: exact, and defined for a picture without a centre.
    left, right = border * inner[0].size, centre * (greys[0].size - inner[0].size)
    inverted = (left > right) | ((left == right) & (greys[:, 0, 0] > 127))
    return np.bitwise_xor(greys, np.where(inverted, 255, 0).astype(np.uint8)[:, None, None])


def normalise(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop to the ink, fit it into 20 by 20 pixels, and move its centre of mass to the middle of 28 by 28.

    Before that, the background with its light gradient, noise and specks are removed; afterwards, hairlines
    are thickened to the width of MNIST's strokes. The aspect ratio is kept.

    Args:
        grey: uint8 (H, W), light on dark or dark on light.

    Returns:
        uint8 (28, 28); all zero if there is no ink.
    """
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    ink, noise = subtract_background(grey)
    smooth = _blur(ink) if noise >= 1 else ink
    peak = int(smooth.max())
    noise_limit = 2.5 * noise
    if peak < max(MIN_CONTRAST, noise_limit):
        return canvas
    rows, columns, mask = find_digit(smooth * (smooth >= max(peak * _MIN_INK, noise_limit)))
    digit = _fit(_stretch(ink[rows, columns] * mask, 2 * noise, peak))
    digit = _stretch(digit, 0, max(1, int(digit.max())))  # resizing makes a thin stroke paler
    top, left = (_offset(digit, axis) for axis in (0, 1))
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return _thickened(canvas)


def _blur(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel as the mean of 3 by 3 pixels."""
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.BoxBlur(1)))


def _stretch(grey: NDArray[np.uint8], black: float, white: float) -> NDArray[np.uint8]:
    """Map the levels from `black` to `white` to 0 to 255, by a table of the 256 levels."""
    levels = (np.arange(256) - black) * (255.0 / max(1.0, white - black))
    stretched: NDArray[np.uint8] = np.rint(levels.clip(0, 255)).astype(np.uint8)[grey]
    return stretched


def _fit(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize so that the longer side has 20 pixels."""
    height, width = ink.shape
    scale = _BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # With a reducing gap Pillow shrinks a large picture in whole steps first: faster, within one grey level.
    return np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))


def _offset(digit: NDArray[np.uint8], axis: int) -> int:
    """The first row (axis 0) or column (1) of the digit on the canvas that puts its mass in the middle."""
    mass = digit.sum(axis=1 - axis, dtype=np.int64)
    centre = float((mass * np.arange(mass.size)).sum()) / max(1, int(mass.sum()))
    return int(np.clip(round(_CENTRE - centre), 0, SIDE - digit.shape[axis]))


def _stroke_width(digit: NDArray[np.uint8]) -> float:
    """The mean width of the strokes in pixels: twice the area divided by the length of the outline."""
    levels = digit.astype(np.float32)
    outline = np.hypot(np.diff(levels, axis=0)[:, :-1], np.diff(levels, axis=1)[:-1]).sum()
    return 2 * float(levels.sum()) / max(1.0, float(outline))


def _thickened(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Widen hairlines by half a pixel on each side and thin strokes by less; keep all others."""
    share = (_THIN - _stroke_width(digit)) / (_THIN - _HAIRLINE)
    if share <= 0:
        return digit
    wider = min(1.0, share) * 2 * _blur(digit).astype(np.float32)
    thickened: NDArray[np.uint8] = np.maximum(digit, np.rint(wider.clip(0, 255)).astype(np.uint8))
    return thickened
