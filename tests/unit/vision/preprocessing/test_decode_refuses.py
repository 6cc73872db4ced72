"""Hostile and damaged files give a reason: no other exception, no hang, no excessive memory."""

import contextlib
import io
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.reasons import Reason
from mnist_ops.vision.preprocessing.decode import MAX_BYTES, decode


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """Encode a picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its length and CRC."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG with this header and these chunks between it and the end; its pixels are all black."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    row = b"\0" * (width + 1)
    pixels = zlib.compress(row * min(height, 28))
    parts = (png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_of(*tags: tuple[int, int, int, int], padding: int = 0) -> bytes:
    """A little-endian TIFF of one directory: tag, type, count, value or offset."""
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + b"\0\0\0\0" + b"\0" * padding


def scans_of(jpeg: bytes, repeats: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    last = jpeg.rindex(b"\xff\xda")
    scan = jpeg[last:-2]
    return jpeg[:-2] + scan * repeats + b"\xff\xd9"


SEVEN = np.zeros((28, 28), np.uint8)
SEVEN[6, 8:20] = SEVEN[6:22, 18] = 255
GOOD = {
    image_format: encoded(Image.fromarray(SEVEN), image_format)
    for image_format in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
}
LARGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


def reason_of(payload: bytes) -> Reason:
    """Return why a file is rejected, within 10 seconds."""
    started = time.monotonic()
    with pytest.raises(ItemRejected) as rejected:
        decode(payload)
    assert time.monotonic() - started < 10
    assert "\n" not in rejected.value.detail
    return rejected.value.reason


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0" * 100,
        b"this is no picture",
        b"BMW builds cars",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"8BPS\0\1",
        b"SIMPLE  =                    T",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html>\x89PNG\r\n\x1a\n</html>",
        b"P5 28 28 255\n" + b"\0" * 784,
        b"\0\0\1\0\1\0",
        b"\x89PNG",
    ],
)
def test_a_format_outside_the_allow_list_is_not_an_image(payload: bytes) -> None:
    """EPS, PSD, FITS, SVG, HTML, PGM, ICO and text are rejected before any parser runs."""
    assert reason_of(payload) is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("image_format", sorted(GOOD))
def test_a_truncated_file_is_unreadable(image_format: str) -> None:
    """Half a file is not decoded."""
    payload = encoded(LARGE, image_format)
    assert reason_of(payload[: len(payload) // 2]) is Reason.UNREADABLE_IMAGE


@pytest.mark.parametrize("image_format", sorted(GOOD))
def test_a_bare_signature_is_unreadable(image_format: str) -> None:
    """The signature is right and the rest is missing."""
    assert reason_of(GOOD[image_format][:20]) is Reason.UNREADABLE_IMAGE


def test_a_file_over_4_mib_is_too_large() -> None:
    """Its contents are not read."""
    assert reason_of(GOOD["PNG"] + b"\0" * MAX_BYTES) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "size", [(8000, 5000), (4001, 4000), (70_000, 1), (20_000, 20_000), (2**31 - 1, 2**31 - 1)]
)
def test_too_many_pixels_are_seen_in_the_header(size: tuple[int, int]) -> None:
    """A decompression bomb of some hundred bytes is not decoded; Pillow's own warning never appears."""
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    payload = GOOD["PNG"][:8] + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    assert reason_of(payload) is Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("image_format", ["GIF", "BMP", "WEBP", "JPEG", "TIFF"])
def test_the_size_is_checked_before_decoding_in_every_format(image_format: str) -> None:
    """An even picture of 25 million pixels compresses to less than the limit of the file size."""
    payload = encoded(Image.new("1" if image_format in ("BMP", "TIFF") else "L", (5000, 5000)), image_format)
    assert len(payload) < MAX_BYTES
    assert reason_of(payload) is Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 ", b"JUNK"])
def test_a_webp_of_huge_canvas_is_refused_by_its_header(kind: bytes) -> None:
    """Libwebp would allocate the canvas first."""
    payload = b"RIFF\x30\0\0\0WEBP" + kind + b"\x0a\0\0\0" + b"\xff" * 40
    expected = Reason.UNREADABLE_IMAGE if kind == b"JUNK" else Reason.TOO_MANY_PIXELS
    assert reason_of(payload) is expected


def test_a_giant_text_chunk_is_refused() -> None:
    """100 MB of text, compressed to less than 4 MiB."""
    text = png_chunk(b"zTXt", b"note\0\0" + zlib.compress(b"a" * 100_000_000))
    assert reason_of(png_of(28, 28, text)) is Reason.UNREADABLE_IMAGE


def test_a_giant_uncompressed_text_chunk_is_ignored() -> None:
    """Metadata does not matter."""
    text = png_chunk(b"tEXt", b"note\0" + b"a" * 3_000_000)
    assert not decode(png_of(28, 28, text)).any()


def test_a_hundred_thousand_chunks_end_in_time() -> None:
    """Each small chunk costs time in Python."""
    started = time.monotonic()
    assert not decode(png_of(28, 28, png_chunk(b"prVt", b"") * 300_000)).any()
    assert time.monotonic() - started < 10


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    """Each scan would be decoded over all pixels."""
    jpeg = encoded(LARGE, "JPEG", progressive=True)
    assert decode(jpeg).shape == (28, 28)
    assert reason_of(scans_of(jpeg, 100)) is Reason.UNREADABLE_IMAGE


def test_a_jpeg_of_endless_exif_is_refused() -> None:
    """Pillow would concatenate the segments one by one."""
    segment = b"\xff\xe1\0\x09Exif\0\0a"
    payload = b"\xff\xd8" + segment * 300_000 + GOOD["JPEG"][2:]
    assert reason_of(payload) is Reason.UNREADABLE_IMAGE


@pytest.mark.parametrize(
    "payload",
    [
        tiff_of((256, 4, 1, 28), (257, 4, 1, 28), (273, 1, 3_000_000, 8), padding=3_500_000),
        tiff_of((256, 4, 1, 28), (257, 4, 1, 28), (259, 3, 1, 34925), (273, 4, 1, 8)),
        tiff_of(*((tag, 1, 3_000_000, 8) for tag in range(1000, 1400)), padding=3_000_000),
        tiff_of((256, 4, 0xFFFFFFFF, 8), (257, 12, 0xFFFFFFFF, 8)),
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff" + b"\0" * 40,
    ],
    ids=["strips", "lzma", "overlapping", "counts", "outside", "entries"],
)
def test_a_tiff_of_hostile_tags_is_unreadable(payload: bytes) -> None:
    """Counts, offsets and codecs on which a decoder would spend unlimited time or memory."""
    assert reason_of(payload) is Reason.UNREADABLE_IMAGE


def test_a_tiff_of_giant_tiles_is_refused() -> None:
    """A tile is decoded as a whole, however small the picture."""
    tags = ((256, 4, 1, 28), (257, 4, 1, 28), (259, 3, 1, 8), (322, 4, 1, 32768), (323, 4, 1, 32768))
    assert reason_of(tiff_of(*tags)) is Reason.TOO_MANY_PIXELS


def test_grey_values_of_nan_are_unreadable() -> None:
    """A TIFF of floats may hold NaN."""
    image = Image.fromarray(np.full((28, 28), np.nan, np.float32))
    assert reason_of(encoded(image, "TIFF")) is Reason.UNREADABLE_IMAGE


def test_a_gif_of_endless_comments_ends_in_time() -> None:
    """Pillow reads all comment blocks before the first frame."""
    gif = GOOD["GIF"]
    start = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    comments = b"\x21\xfe" + b"\x01a" * 1_900_000 + b"\0"
    started = time.monotonic()
    assert decode(gif[:start] + comments + gif[start:]).shape == (28, 28)
    assert time.monotonic() - started < 10


def decoded_or_refused(payload: bytes) -> None:
    """Decode; any exception but a rejection fails the test."""
    with contextlib.suppress(ItemRejected):
        assert decode(payload).shape == (28, 28)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", *(GOOD[name][:12] for name in sorted(GOOD))]))
def test_random_bytes_never_raise_anything_else(tail: bytes, head: bytes) -> None:
    """Whatever follows a signature, the result is a digit or a reason."""
    decoded_or_refused(head + tail)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(GOOD)),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
def test_mutated_pictures_never_raise_anything_else(
    image_format: str, edits: list[tuple[int, int]], cut: int
) -> None:
    """Changed bytes and truncated ends, in every format."""
    payload = bytearray(GOOD[image_format])
    for position, value in edits:
        payload[position % len(payload)] = value
    decoded_or_refused(bytes(payload[: max(1, cut % (2 * len(payload)))]))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_png_with_any_flipped_bit_never_gives_other_pixels_silently(position: int, flip: int) -> None:
    """The checksums of a digit's PNG are verified: it is rejected, or decoded to the same pixels."""
    payload = bytearray(GOOD["PNG"])
    payload[33 + position % (len(payload) - 33 - 12)] ^= flip
    try:
        decoded = decode(bytes(payload))
    except ItemRejected:
        return
    np.testing.assert_array_equal(decoded, SEVEN)


def test_the_process_keeps_its_warning_filters() -> None:
    """Ignoring warnings ends with the decoding."""
    before = list(warnings.filters)
    decode(encoded(LARGE))
    assert warnings.filters == before
