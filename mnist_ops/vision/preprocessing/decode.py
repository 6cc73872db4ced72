"""Decode encoded images to digits in MNIST's form, or to the reason why that is not possible."""

import io
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

# Imported by name: when Pillow does not find a loaded plugin for a format, it loads all plugins.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.reasons import Reason
from mnist_ops.vision.data.examples import SIDE
from mnist_ops.vision.preprocessing.formats import check_size, format_of
from mnist_ops.vision.preprocessing.grayscale import to_grey
from mnist_ops.vision.preprocessing.normalize import harmonise, ink_on_black
from mnist_ops.vision.preprocessing.png_batch import filtered_rows, unfilter

MAX_BYTES = 4 * 1024 * 1024

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FULL_SCALES = (255, 65_535)  # white in 8 and in 16 bits

_warnings_lock = threading.Lock()

Digit = NDArray[np.uint8]
_Decoded = Digit | ItemRejected
Map = Callable[[Callable[[bytes], _Decoded], Iterable[bytes]], Iterable[_Decoded]]


def decode(payload: bytes) -> Digit:
    """Decode an encoded image to uint8 (28, 28), ink = 255 on 0.

    Only the first frame is used. The EXIF orientation is applied, transparency is put over white, and
    colours become grey so that the ink contrasts with its background. Pictures of 28 x 28 pixels keep their
    pixels; others are normalised as MNIST was.

    Raises:
        ItemRejected: TOO_LARGE, over 4 MiB; NOT_AN_IMAGE, not a PNG, JPEG, GIF, BMP, WEBP or TIFF;
            TOO_MANY_PIXELS, over 16 million; UNREADABLE_IMAGE, truncated or corrupt.
    Source: size and centre-of-mass normalisation, LeCun et al. 1998, section III.
    """
    digits, rejected = decode_all([payload])
    if rejected:
        raise rejected[0]
    digit: Digit = digits[0]
    return digit


def decode_all(
    payloads: Sequence[bytes], map_slow: Map = map
) -> tuple[NDArray[np.uint8], Mapping[int, ItemRejected]]:
    """Decode many images, each exactly as `decode` does.

    Args:
        payloads: N encoded images.
        map_slow: applies a function to the images that are not small plain PNGs, in order: `map`, or the
            method of an executor.

    Returns:
        uint8 (N, 28, 28), zeros where an image was rejected; and the rejections by position.
    """
    digits = np.zeros((len(payloads), SIDE, SIDE), np.uint8)
    rejected: dict[int, ItemRejected] = {}
    plain: dict[int, bytes] = {}
    others: list[int] = []
    for position, payload in enumerate(payloads):
        rows = filtered_rows(payload) if len(payload) <= MAX_BYTES else None
        if rows is None:
            others.append(position)
        else:
            plain[position] = rows
    if plain:
        digits[list(plain)] = ink_on_black(unfilter(list(plain.values())))
    decoded = map_slow(_decode_one, [payloads[position] for position in others])
    for position, digit in zip(others, decoded, strict=True):
        if isinstance(digit, ItemRejected):
            rejected[position] = digit
        else:
            digits[position] = digit
    return digits, rejected


def _decode_one(payload: bytes) -> _Decoded:
    """Decode any allowed image; a rejection is a value, so that one bad image does not end a batch."""
    if len(payload) > MAX_BYTES:
        return _too_large(payload)
    try:
        return harmonise(_grey_levels(payload))
    except ItemRejected as rejection:
        return rejection


def thumbnail(payload: bytes, longest: int) -> NDArray[np.uint8]:
    """An encoded image for people to look at: uint8 (H, W, 3), upright, in colour, transparency over white.

    Args:
        payload: as fetched.
        longest: the longer side is reduced to at most this many pixels; a smaller image keeps its size.

    Raises:
        ItemRejected: as `decode`.
    """
    if len(payload) > MAX_BYTES:
        raise _too_large(payload)

    def reduced(image: Image.Image) -> NDArray[np.uint8]:
        coloured = _coloured(image)
        coloured.thumbnail((longest, longest))
        return np.asarray(coloured)

    return _converted(payload, reduced)


def _grey_levels(payload: bytes) -> NDArray[np.uint8]:
    """Any allowed image as uint8 (H, W), upright, 0 black to 255 white."""
    return _converted(payload, _pixels)


def _too_large(payload: bytes) -> ItemRejected:
    return ItemRejected(Reason.TOO_LARGE, f"{len(payload):,} bytes; the limit is {MAX_BYTES:,}")


def _converted(payload: bytes, convert: Callable[[Image.Image], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """What a function makes of an allowed image, once it is loaded and upright."""
    name = format_of(payload)
    try:
        with _isolated_warnings(), Image.open(io.BytesIO(payload), formats=(name,)) as image:
            check_size(*image.size)
            image.load()
            orientation = image.getexif().get(_ORIENTATION)
            turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
            return convert(image if turn is None else image.transpose(turn))
    except ItemRejected:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ItemRejected(Reason.TOO_MANY_PIXELS, str(error)) from error
    except Exception as error:
        # On hostile bytes Pillow's decoders raise exceptions of nearly every class.
        detail = f"{name} that cannot be decoded: {str(error) or type(error).__name__}"
        raise ItemRejected(Reason.UNREADABLE_IMAGE, detail[:300]) from error


@contextmanager
def _isolated_warnings() -> Iterator[None]:
    """Raise for a decompression bomb and ignore other warnings, such as those about unusual metadata.

    The lock is needed because Python's warning filters belong to the process, not to the thread.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """The grey levels uint8 (H, W) of a loaded image of any mode."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(np.asarray(image))
    if image.has_transparency_data:
        image = _over_white(image)
    elif image.mode not in ("L", "1", "RGB"):
        image = image.convert("RGB")
    grey = to_grey(image) if image.mode == "RGB" else image.convert("L")
    # For a small image `np.asarray` takes three times as long.
    return np.frombuffer(grey.tobytes(), np.uint8).reshape(grey.height, grey.width)


def _coloured(image: Image.Image) -> Image.Image:
    """A loaded image of any mode, in RGB."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_scaled(np.asarray(image)))
    return _over_white(image) if image.has_transparency_data else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    coloured = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(coloured, mask=coloured.getchannel("A"))
    return white


def _scaled(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey values of more than 8 bits to 0 to 255.

    White is the smallest usual maximum (1 for fractions, 255, 65,535) that no value exceeds. If a value
    exceeds all of them or is negative, the range from the lowest to the highest value is used.
    """
    grey = values.astype(np.float32)
    if not np.isfinite(grey).all():
        raise ValueError("a grey value is not finite")
    low, high = float(grey.min()), float(grey.max())
    scales = (1, *_FULL_SCALES) if values.dtype.kind == "f" else _FULL_SCALES
    white = next((float(scale) for scale in scales if high <= scale), None)
    if low < 0 or white is None:
        grey -= low
        white = high - low or 1
    grey *= 255 / white
    return np.rint(grey, out=grey).astype(np.uint8)
