"""Convert a coloured picture to grey so that its ink contrasts with its background.

Brightness alone (ITU-R 601) hides red ink on a green background, and nearly hides yellow ink on white. Where
other weights of the channels give a much higher contrast, these are used.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.vision.preprocessing.background import Background

_SAMPLE_SIDE = 128  # pixels; the weights are chosen on a copy reduced to at most this side
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # ITU-R 601
_MIN_GAIN = 1.6  # times the contrast of the brightness that other weights must give
_MIN_COLOUR = 12  # levels between two channels; a picture without such a pixel is grey


def to_grey(image: Image.Image) -> Image.Image:
    """A picture of mode RGB in mode L; the ink may be lighter or darker than the background.

    The grey level is the brightness, unless the axis through colour space along which ink and background
    differ most gives a much higher contrast. Only a reduced copy is searched, so that a large picture takes
    no more memory.
    """
    weights = _channel_weights(image)
    if weights is None:
        return image.convert("L")
    # A negative weight counts down from 255, so that no value is clipped.
    offset = -255.0 * float(weights[weights < 0].sum())
    return image.convert("L", (*map(float, weights), offset))


def _channel_weights(image: Image.Image) -> NDArray[np.float64] | None:
    """The weights of red, green and blue, whose absolute values sum to 1; None for the brightness.

    The axis is the first principal component of the difference from the background of each channel.
    """
    factor = -(-max(image.size) // _SAMPLE_SIDE)
    pixels = np.asarray(image.reduce(factor) if factor > 1 else image)
    if int((pixels.max(axis=2) - pixels.min(axis=2)).max()) < _MIN_COLOUR:
        return None
    differences = np.stack([_difference(pixels[..., channel]) for channel in range(3)])
    scatter = differences @ differences.T
    axis: NDArray[np.float64] = np.linalg.eigh(scatter)[1][:, -1]
    axis = axis / np.abs(axis).sum() * (1 if axis.sum() >= 0 else -1)
    much_higher = axis @ scatter @ axis >= _MIN_GAIN**2 * (_BRIGHTNESS @ scatter @ _BRIGHTNESS)
    return axis if much_higher and scatter.any() else None


def _difference(channel: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The difference of each pixel of a channel (H, W) from the background, (H W,)."""
    height, width = channel.shape
    levels = Background.fit(channel).levels(range(height), height, width)
    return (channel - levels).ravel().astype(np.float64)
