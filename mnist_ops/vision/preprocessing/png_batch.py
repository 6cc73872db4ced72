"""The commonest file, a PNG of 28 x 28 grey pixels, decoded by the hundred.

A general decoder spends most of its time on what surrounds so few pixels. Here only the frame of a file is
looked at one by one; the pixels of all of them are then decoded at once, as one tall picture.
Measured (2 cores, MNIST): 7 microseconds a picture, against 14 one by one and 28 through `Image.open`.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.vision.data.examples import SIDE

# How a PNG begins that holds 28 x 28 grey pixels of 8 bits, not interlaced: signature, IHDR, its CRC.
_IHDR = b"IHDR" + bytes((0, 0, 0, SIDE, 0, 0, 0, SIDE, 8, 0, 0, 0, 0))
_BEGINNING = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + _IHDR + zlib.crc32(_IHDR).to_bytes(4, "big")

_ROW_BYTES = SIDE + 1  # the number of the row's filter, and its pixels
_FILTERED_BYTES = SIDE * _ROW_BYTES
# Filters refer to the row above, which for a picture's first row is black.
_BLACK_ROW = bytes(_ROW_BYTES)
_LAST_FILTER = 4


def filtered_rows(payload: bytes) -> bytes | None:
    """The rows of such a file, still filtered, each after the number of its filter: 28 times 29 bytes.

    None where it is another file, or not quite in order: a general decoder then judges it.
    """
    if not payload.startswith(_BEGINNING):
        return None
    start, pixels = len(_BEGINNING), b""
    while (kind := payload[start + 4 : start + 8]) == b"IDAT":
        end = start + 8 + int.from_bytes(payload[start : start + 4], "big")
        if zlib.crc32(payload[start + 4 : end]) != int.from_bytes(payload[end : end + 4], "big"):
            return None
        pixels += payload[start + 8 : end]
        start = end + 4
    if kind != b"IEND":
        return None
    inflating = zlib.decompressobj()
    try:
        # One byte more than there should be tells a bomb.
        rows = inflating.decompress(pixels, _FILTERED_BYTES + 1)
    except zlib.error:
        return None
    sound = inflating.eof and len(rows) == _FILTERED_BYTES and max(rows[::_ROW_BYTES]) <= _LAST_FILTER
    return rows if sound else None


def unfiltered(pictures: Sequence[bytes]) -> NDArray[np.uint8]:
    """The pixels uint8 (N, 28, 28) of what `filtered_rows` gave of N files."""
    tall = _BLACK_ROW.join([*pictures, b""])
    height = len(pictures) * (SIDE + 1)
    # Packed without compressing, since the decoder undoes the filters only on the way out of a zlib stream.
    image = Image.frombytes("L", (SIDE, height), zlib.compress(tall, 0), "zip", "L")
    pixels: NDArray[np.uint8] = np.frombuffer(image.tobytes(), np.uint8)
    return pixels.reshape(len(pictures), SIDE + 1, SIDE)[:, :SIDE]
