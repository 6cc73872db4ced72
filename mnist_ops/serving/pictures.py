"""Pictures in pages: always encoded again, never the bytes that were fetched."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.vision.preprocessing.decode import decode, thumbnail


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a person and as the network sees it.

    Attributes:
        fetched: a data URI with the image as it was fetched; None if it cannot be shown.
        seen: a data URI with the 28 x 28 pixels that are classified; None if there are none.
        why_not: why there is no picture; None if there is one.
    """

    fetched: str | None = None
    seen: str | None = None
    why_not: str | None = None


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


def picture(payload: bytes, longest: int = 112) -> Picture:
    """The picture of a fetched image; one that cannot be decoded is shown by the reason.

    Args:
        payload: its bytes.
        longest: the longer side of the picture as fetched, in pixels.
    """
    try:
        return Picture(as_fetched(payload, longest), as_network_sees_it(decode(payload)))
    except ItemRejected as rejection:
        return Picture(why_not=rejection.detail)
