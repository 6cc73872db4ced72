"""Decode PNG files of 28 x 28 grey pixels, the most frequent kind, in batches.

A general decoder spends most of its time on the file's structure, since there are so few pixels. Here only
that structure is read file by file; the pixels of all files are then decoded at once, as one tall picture.
Measured (2 cores, MNIST): 7 µs per picture, against 14 µs one by one and 28 µs through `Image.open`.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.vision.data.examples import SIDE

# The first bytes of a PNG of 28 x 28 grey pixels of 8 bits, not interlaced: signature, IHDR and its CRC.
_IHDR = b"IHDR" + bytes((0, 0, 0, SIDE, 0, 0, 0, SIDE, 8, 0, 0, 0, 0))
_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + _IHDR + zlib.crc32(_IHDR).to_bytes(4, "big")

_ROW_BYTES = SIDE + 1  # the row's filter type and its pixels
_FILTERED_BYTES = SIDE * _ROW_BYTES
# Filters refer to the row above; above a picture's first row it counts as black.
_BLACK_ROW = bytes(_ROW_BYTES)
_MAX_FILTER_TYPE = 4


def filtered_rows(payload: bytes) -> bytes | None:
    """The rows of such a file, still filtered, each after its filter type: 28 times 29 bytes.

    None for any other file and for a damaged one: the general decoder then decides.
    """
    if not payload.startswith(_HEADER):
        return None
    start, compressed = len(_HEADER), b""
    while (kind := payload[start + 4 : start + 8]) == b"IDAT":
        end = start + 8 + int.from_bytes(payload[start : start + 4], "big")
        if zlib.crc32(payload[start + 4 : end]) != int.from_bytes(payload[end : end + 4], "big"):
            return None
        compressed += payload[start + 8 : end]
        start = end + 4
    if kind != b"IEND":
        return None
    decompressor = zlib.decompressobj()
    try:
        # One byte more than expected is enough to detect a decompression bomb.
        rows = decompressor.decompress(compressed, _FILTERED_BYTES + 1)
    except zlib.error:
        return None
    complete = decompressor.eof and len(rows) == _FILTERED_BYTES
    return rows if complete and max(rows[::_ROW_BYTES]) <= _MAX_FILTER_TYPE else None


def unfilter(pictures: Sequence[bytes]) -> NDArray[np.uint8]:
    """The pixels uint8 (N, 28, 28) of N results of `filtered_rows`."""
    tall = _BLACK_ROW.join([*pictures, b""])
    height = len(pictures) * (SIDE + 1)
    # Pillow undoes the filters only while it reads a zlib stream, so one is made, without compression.
    image = Image.frombytes("L", (SIDE, height), zlib.compress(tall, 0), "zip", "L")
    pixels: NDArray[np.uint8] = np.frombuffer(image.tobytes(), np.uint8)
    return pixels.reshape(len(pictures), SIDE + 1, SIDE)[:, :SIDE]
