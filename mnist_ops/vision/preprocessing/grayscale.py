"""Make a coloured picture grey so that its ink stands out.

Brightness alone (ITU-R 601) loses red ink on green paper, and all but loses yellow on white. Where another
mix of the channels shows the ink far better, that mix is taken.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.vision.preprocessing.background import Paper

_SAMPLE_SIDE = 128  # pixels: the mix is chosen on a copy reduced to no more than this
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601
_GAIN = 1.6  # how many times as far as in the usual grey the ink must stand from its paper
_COLOURED = 12  # levels between two channels of a pixel, under which all pixels are grey


def grey_of(image: Image.Image) -> Image.Image:
    """A picture of mode RGB as one of mode L; whether ink or paper is the lighter stays open.

    It is the usual grey, unless the axis through colour space along which ink and paper differ most
    shows them far better. Only a small copy is searched: a large picture takes no more memory.
    """
    mix = _mix(image)
    if mix is None:
        return image.convert("L")
    offset = -255.0 * float(mix[mix < 0].sum())  # a negative weight reaches down from 255: nothing is clipped
    return image.convert("L", (*map(float, mix), offset))


def _mix(image: Image.Image) -> NDArray[np.float64] | None:
    """The weights of red, green and blue, whose absolute values sum to 1; None for the usual grey.

    The axis is the first principal component of what lies off the paper, channel by channel.
    """
    factor = -(-max(image.size) // _SAMPLE_SIDE)
    pixels = np.asarray(image.reduce(factor) if factor > 1 else image)
    if int((pixels.max(axis=2) - pixels.min(axis=2)).max()) < _COLOURED:
        return None
    off = np.stack([_off_paper(pixels[..., channel]) for channel in range(3)])
    scatter = off @ off.T
    axis: NDArray[np.float64] = np.linalg.eigh(scatter)[1][:, -1]
    axis = axis / np.abs(axis).sum() * (1 if axis.sum() >= 0 else -1)
    far_better = axis @ scatter @ axis >= _GAIN**2 * (_GREY @ scatter @ _GREY)
    return axis if far_better and scatter.any() else None


def _off_paper(channel: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far each pixel of a channel (H, W) lies from the paper's level, (H W,)."""
    height, width = channel.shape
    levels = Paper.under(channel).levels(range(height), height, width)
    return (channel - levels).ravel().astype(np.float64)
