"""Draws digits side by side in one image, each with a caption."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_ops.vision.data.examples import SIDE, require_digits

_SCALE = 2  # pixels of the grid per pixel of a digit
_CAPTION = 14  # height in pixels
_GAP = 4  # pixels
_COLUMNS = 10


def sample_grid(images: NDArray[np.uint8], captions: Sequence[str]) -> NDArray[np.uint8]:
    """Return one image uint8 (height, width, 3) of digits, row by row.

    Args:
        images: uint8 (N, 28, 28), ink 255 on 0; at least one.
        captions: N captions of one word each.

    Raises:
        ValueError: the numbers of images and captions differ.
        Permanent: the images have another shape or type.
    """
    require_digits(images)
    width, height = SIDE * _SCALE + _GAP, SIDE * _SCALE + _CAPTION + _GAP
    rows = -(-len(images) // _COLUMNS)
    picture = Image.new("RGB", (_COLUMNS * width + _GAP, rows * height + _GAP), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, _COLUMNS)
        left, top = _GAP + column * width, _GAP + row * height
        digit = Image.fromarray(image).resize((SIDE * _SCALE, SIDE * _SCALE), Image.Resampling.NEAREST)
        picture.paste(digit, (left, top))
        pen.text((left, top + SIDE * _SCALE), caption, fill="black", font=font)
    return np.asarray(picture)
