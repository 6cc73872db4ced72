"""Digits of MNIST: the sample that comes with the project, or the full set from a folder."""

import gzip
import io
import lzma
import math
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ops.domain.errors import Damaged, ObjectMissing, Permanent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE = Path(__file__).parent / "digits"
SPLITS = {"train": "train", "test": "t10k"}  # a split to the prefix of its files, as MNIST names them

_UINT8 = 0x08  # the IDX code of the only element type that MNIST has
_UNPACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.decompress, ".xz": lzma.decompress}


@cache
def load(split: str, folder: Path = SAMPLE) -> "tuple[NDArray[np.uint8], NDArray[np.uint8]]":
    """The digits of a split: images uint8 (N, 28, 28), ink 255 on 0, and labels uint8 (N,).

    Args:
        split: "train" (10,000 in the sample) or "test" (2,000).
        folder: with MNIST's four IDX files, plain, .gz or .xz. The arrays are cached and read-only.

    Raises:
        ObjectMissing: the folder has no such file.
        Damaged: a file is not in the IDX format, or images and labels differ in number.
        Permanent: there is no such split.
    """
    if split not in SPLITS:
        raise Permanent(f"split {split!r} is not one of {', '.join(SPLITS)}")
    images = read_idx(folder / f"{SPLITS[split]}-images-idx3-ubyte")
    labels = read_idx(folder / f"{SPLITS[split]}-labels-idx1-ubyte")
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise Damaged(f"{folder}: images {images.shape} and labels {labels.shape} are not MNIST's")
    return images, labels


def read_idx(path: Path) -> "NDArray[np.uint8]":
    """Read an IDX file of unsigned bytes; of `path`, `path`.gz and `path`.xz the first that exists.

    Raises:
        ObjectMissing: there is none of them.
        Damaged: it is not in that format.
    Source: the format is described with MNIST, Y. LeCun, C. Cortes, C. Burges.
    """
    import numpy as np  # only where digits are read: the command line imports this module

    found, data = _content(path)
    try:
        zero, kind, dimensions = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
    except struct.error as error:
        raise Damaged(f"{found}: too short for an IDX file") from error
    start = 4 + 4 * dimensions
    if (zero, kind) != (0, _UINT8) or len(data) - start != math.prod(shape):
        raise Damaged(f"{found}: not an IDX file of unsigned bytes, or incomplete")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def png(image: "NDArray[np.uint8]") -> bytes:
    """A digit uint8 (H, W) as a grey PNG: the same bytes for the same pixels."""
    from PIL import Image  # noqa: PLC0415 - as numpy

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _content(path: Path) -> tuple[Path, bytes]:
    for ending, unpack in _UNPACK.items():
        candidate = path.with_name(path.name + ending)
        if candidate.is_file():
            try:
                return candidate, unpack(candidate.read_bytes())
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise Damaged(f"{candidate}: cannot be unpacked: {error}") from error
    raise ObjectMissing(f"{path}: no such file, nor one with .gz or .xz")
