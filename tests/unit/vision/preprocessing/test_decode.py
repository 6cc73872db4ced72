"""Every allowed way to encode a digit gives the digit back; MNIST's own pixels are the golden ones."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.vision.preprocessing.decode import decode


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """Encode a picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def test_a_grey_png_of_28_pixels_keeps_its_pixels(digit: NDArray[np.uint8]) -> None:
    """MNIST's own files pass unchanged."""
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(digit))), digit)


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_every_lossless_format_gives_the_same_pixels(digit: NDArray[np.uint8], image_format: str) -> None:
    """The file format does not matter."""
    options = {"lossless": True} if image_format == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(digit), image_format, **options)), digit)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_gives_the_same_pixels(digit: NDArray[np.uint8], compression: str) -> None:
    """The codecs of libtiff in the allow-list work."""
    payload = encoded(Image.fromarray(digit), "TIFF", compression=compression)
    np.testing.assert_array_equal(decode(payload), digit)


def test_a_jpeg_comes_close(digit: NDArray[np.uint8]) -> None:
    """A lossy format changes grey levels slightly."""
    decoded = decode(encoded(Image.fromarray(digit), "JPEG", quality=95)).astype(int)
    assert np.abs(decoded - digit).max() < 24


def test_black_on_white_is_inverted(digit: NDArray[np.uint8]) -> None:
    """A background that is brighter than the ink is inverted."""
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(255 - digit))), digit)


def test_an_even_white_picture_has_no_ink() -> None:
    """It is blank, not all ink."""
    assert not decode(encoded(Image.new("L", (28, 28), 255))).any()


def test_16_bit_png_is_scaled_to_8(digit: NDArray[np.uint8]) -> None:
    """65,535 is full ink."""
    wide = Image.fromarray(digit.astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    np.testing.assert_array_equal(decode(encoded(wide)), digit)


def test_16_bit_big_endian_tiff_is_scaled_to_8(digit: NDArray[np.uint8]) -> None:
    """The byte order does not matter."""
    wide = Image.frombytes("I;16B", (28, 28), (digit.astype(">u2") * 257).tobytes())
    np.testing.assert_array_equal(decode(encoded(wide, "TIFF")), digit)


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.int32, 257), (np.int32, 1), (np.int32, 100_000), (np.float32, 1 / 255), (np.float32, 1)],
)
def test_wide_tiffs_are_scaled_by_the_full_scale_that_holds_them(
    digit: NDArray[np.uint8], dtype: type[np.generic], factor: float
) -> None:
    """32-bit integers and floats have no fixed value for white."""
    wide = Image.fromarray((digit.astype(np.float64) * factor).astype(dtype))
    assert wide.mode in ("I", "F")
    np.testing.assert_array_equal(decode(encoded(wide, "TIFF")), digit)


def test_a_palette_gives_its_colours_not_its_indices(digit: NDArray[np.uint8]) -> None:
    """Here index 0 is white and index 255 is black."""
    image = Image.frombytes("P", (28, 28), digit.tobytes())
    image.putpalette([255 - level for level in range(256) for _ in range(3)])
    np.testing.assert_array_equal(decode(encoded(image)), digit)


def test_cmyk_is_converted_to_grey(digit: NDArray[np.uint8]) -> None:
    """A digit in the black channel alone."""
    black = Image.fromarray(digit)
    none = Image.new("L", (28, 28), 0)
    image = Image.merge("CMYK", (none, none, none, black))
    np.testing.assert_array_equal(decode(encoded(image, "TIFF")), digit)


def test_a_cmyk_jpeg_reads_the_right_way_round(digit: NDArray[np.uint8]) -> None:
    """Adobe stores CMYK inverted in JPEG."""
    none = Image.new("L", (28, 28), 0)
    image = Image.merge("CMYK", (none, none, none, Image.fromarray(digit)))
    decoded = decode(encoded(image, "JPEG", quality=95)).astype(int)
    assert np.abs(decoded - digit).mean() < 8


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_shows_a_white_background(digit: NDArray[np.uint8], mode: str) -> None:
    """Black ink with the digit as its alpha channel."""
    bands = [Image.new("L", (28, 28), 0)] * (len(mode) - 1)
    image = Image.merge(mode, (*bands, Image.fromarray(digit)))
    np.testing.assert_array_equal(decode(encoded(image)), digit)


def test_a_transparent_palette_colour_shows_a_white_background(digit: NDArray[np.uint8]) -> None:
    """A GIF's transparent colour is white, regardless of its entry in the palette."""
    ink = np.where(digit > 127, 1, 0).astype(np.uint8)
    image = Image.frombytes("P", (28, 28), ink.tobytes())
    image.putpalette([0, 0, 0, 20, 20, 20])
    np.testing.assert_array_equal(decode(encoded(image, "GIF", transparency=0)), ink * 235)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(digit: NDArray[np.uint8], orientation: int, image_format: str) -> None:
    """The digit is upright, regardless of how the camera was held."""
    # The transposition that the orientation undoes.
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    turned = (
        Image.fromarray(digit) if undo is None else Image.fromarray(digit).transpose(Image.Transpose(undo))
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    exact: dict[str, dict[str, object]] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}
    options = exact.get(image_format, {})
    decoded = decode(encoded(turned, image_format, exif=exif, **options)).astype(int)
    assert np.abs(decoded - digit).max() < 8


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_counts(digit: NDArray[np.uint8], image_format: str) -> None:
    """Later frames are not even decoded."""
    first, second = Image.fromarray(digit), Image.new("L", (28, 28), 255)
    options = {"lossless": True} if image_format == "WEBP" else {}
    payload = encoded(first, image_format, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(decode(payload), digit)


def test_one_bit_pictures_are_black_and_white(digit: NDArray[np.uint8]) -> None:
    """A fax has no grey levels."""
    image = Image.fromarray(digit > 127)
    assert image.mode == "1"
    np.testing.assert_array_equal(decode(encoded(image)), np.where(digit > 127, 255, 0))


def test_a_large_drawing_is_cropped_scaled_and_centred(digit: NDArray[np.uint8]) -> None:
    """A large digit in a corner becomes nearly the same as MNIST's own."""
    picture = Image.new("RGB", (900, 700), "white")
    picture.paste(Image.fromarray(255 - digit).resize((280, 280)), (600, 400))
    decoded = decode(encoded(picture)).astype(int)
    assert decoded.shape == (28, 28)
    assert np.abs(decoded - digit).mean() < 8
    rows, columns = np.nonzero(decoded)
    assert max(np.ptp(rows), np.ptp(columns)) == 19
    assert (decoded.sum(axis=1) @ np.arange(28)) / decoded.sum() == pytest.approx(14, abs=0.51)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 2), (3, 5), (27, 29)])
@pytest.mark.parametrize("colour", [0, 100, 255])
def test_an_even_picture_of_any_size_is_blank(size: tuple[int, int], colour: int) -> None:
    """An empty picture has no ink, whatever its shape."""
    decoded = decode(encoded(Image.new("L", size, colour)))
    assert decoded.shape == (28, 28)
    assert not decoded.any()
