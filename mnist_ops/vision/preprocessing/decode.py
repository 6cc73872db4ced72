"""Turn encoded images into digits as MNIST has them, or into reasons."""

import io
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

# Imported by name: looking for a plugin that is not loaded yet makes Pillow load all of them.
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
from mnist_ops.vision.preprocessing.formats import check_size, container_of
from mnist_ops.vision.preprocessing.grayscale import grey_of
from mnist_ops.vision.preprocessing.normalize import harmonise, inks_on_black
from mnist_ops.vision.preprocessing.png_batch import filtered_rows, unfiltered

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
_FULL_SCALES = (255, 65_535)  # the brightest values of 8 and 16 bits

_warnings_lock = threading.Lock()


Digit = NDArray[np.uint8]


def decode(payload: bytes) -> Digit:
    """Decode an encoded image to uint8 (28, 28), ink = 255 on 0.

    The first frame counts; EXIF orientation is applied, transparency laid over white, colours made
    grey so that ink stands out from paper. Pictures of 28 x 28 pixels keep their pixels, others are
    normalised as MNIST was.

    Raises:
        ItemRejected: TOO_LARGE, over 4 MiB; NOT_AN_IMAGE, no PNG, JPEG, GIF, BMP, WEBP or TIFF;
            TOO_MANY_PIXELS, over 16 million; UNREADABLE_IMAGE, truncated or corrupt.
    Source: size and centre-of-mass normalisation, LeCun et al. 1998, section III.
    """
    digits, rejected = decode_all([payload])
    if rejected:
        raise rejected[0]
    digit: Digit = digits[0]
    return digit


def decode_all(
    payloads: Sequence[bytes], each: "Each" = map
) -> tuple[NDArray[np.uint8], Mapping[int, ItemRejected]]:
    """Decode many images, each exactly as `decode` does.

    Args:
        payloads: N encoded images.
        each: applies a function to those that take some time, in order: `map`, or that of an executor.

    Returns:
        uint8 (N, 28, 28), zeros where there is no digit; and by position, why there is none.
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
        digits[list(plain)] = inks_on_black(unfiltered(list(plain.values())))
    for position, answer in zip(others, each(_digit, [payloads[other] for other in others]), strict=True):
        if isinstance(answer, ItemRejected):
            rejected[position] = answer
        else:
            digits[position] = answer
    return digits, rejected


Each = Callable[[Callable[[bytes], "_Answer"], Iterable[bytes]], Iterable["_Answer"]]
_Answer = Digit | ItemRejected


def _digit(payload: bytes) -> Digit | ItemRejected:
    """The general way; a rejection is a value, so that one does not end a batch."""
    if len(payload) > MAX_BYTES:
        detail = f"{len(payload):,} bytes; at most {MAX_BYTES:,} are decoded"
        return ItemRejected(Reason.TOO_LARGE, detail)
    try:
        return harmonise(_grey(payload))
    except ItemRejected as rejection:
        return rejection


def _grey(payload: bytes) -> NDArray[np.uint8]:
    """Any allowed image as uint8 (H, W), upright, 0 black to 255 white."""
    container = container_of(payload)
    try:
        with _quiet(), Image.open(io.BytesIO(payload), formats=(container,)) as image:
            check_size(*image.size)
            image.load()
            orientation = image.getexif().get(_ORIENTATION)
            turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
            return _levels(image if turn is None else image.transpose(turn))
    except ItemRejected:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ItemRejected(Reason.TOO_MANY_PIXELS, str(error)) from error
    except Exception as error:
        # Pillow's decoders raise nearly everything on hostile bytes, and one bad item is a value.
        detail = f"{container} that cannot be decoded: {str(error) or type(error).__name__}"
        raise ItemRejected(Reason.UNREADABLE_IMAGE, detail[:300]) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Whatever the process does with warnings: a bomb is an error, odd metadata is nobody's concern.

    The lock is there because Python's warning filters belong to the process, not to the thread.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _levels(image: Image.Image) -> NDArray[np.uint8]:
    """A loaded image as grey levels uint8 (H, W)."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(np.asarray(image))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(coloured, mask=coloured.getchannel("A"))
    elif image.mode not in ("L", "1", "RGB"):
        image = image.convert("RGB")
    return _pixels(grey_of(image) if image.mode == "RGB" else image.convert("L"))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an "L" image (`np.asarray` takes three times as long for a small one)."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width)


def _scaled(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits as 0 to 255.

    White is the smallest usual full scale (1 for fractions, 8 bits, 16 bits) that holds all values;
    beyond them, and below zero, the values' own range is spread.
    """
    grey = values.astype(np.float32)
    if not np.isfinite(grey).all():
        raise ValueError("a grey value is not finite")
    low, high = float(grey.min()), float(grey.max())
    white: float | None
    scales = (1, *_FULL_SCALES) if values.dtype.kind == "f" else _FULL_SCALES
    white = next((scale for scale in scales if high <= scale), None)
    if low < 0 or white is None:
        grey -= low
        white = high - low or 1
    grey *= 255 / white
    return np.rint(grey, out=grey).astype(np.uint8)
