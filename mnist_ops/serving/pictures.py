"""Pictures in pages: always encoded again, never the bytes that were fetched."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.vision.preprocessing.decode import thumbnail


def png(pixels: NDArray[np.uint8]) -> str:
    """An image as a data URI with a PNG.

    Args:
        pixels: uint8 (H, W) grey or (H, W, 3) in colour.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def as_network_sees_it(digit: NDArray[np.uint8]) -> str:
    """A digit, uint8 (28, 28) with ink 255, as a data URI: dark ink on white, as people write."""
    inverted: NDArray[np.uint8] = 255 - digit
    return png(inverted)


def as_fetched(payload: bytes, longest: int = 112) -> str:
    """A fetched image as a data URI with a PNG whose longer side has at most `longest` pixels.

    Raises:
        ItemRejected: the image cannot be decoded; the error says why.
    """
    return png(thumbnail(payload, longest))
