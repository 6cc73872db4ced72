"""Digits side by side in one picture, each with its caption."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_ops.vision.data.examples import SIDE, require_digits

_SCALE = 2
_CAPTION = 14  # pixels of height
_GAP = 4


def sample_grid(images: NDArray[np.uint8], captions: Sequence[str], columns: int = 10) -> NDArray[np.uint8]:
    """One picture uint8 (height, width, 3) of digits, row by row.

    Args:
        images: uint8 (N, 28, 28), ink 255 on 0; at least one.
        captions: N of them, each of a word.
        columns: digits a row.

    Raises:
        ValueError: there are not as many captions as images.
        Permanent: the images have another shape or type.
    """
    require_digits(images)
    width, height = SIDE * _SCALE + _GAP, SIDE * _SCALE + _CAPTION + _GAP
    rows = -(-len(images) // columns)
    picture = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = _GAP + column * width, _GAP + row * height
        digit = Image.fromarray(image).resize((SIDE * _SCALE, SIDE * _SCALE), Image.Resampling.NEAREST)
        picture.paste(digit, (left, top))
        pen.text((left, top + SIDE * _SCALE), caption, fill="black", font=font)
    return np.asarray(picture)
