"""What an image file's outer structure says, read before any decoder sees the file.

Only what a picture of a digit may come in is let through, and only where decoding it is sure to end
within seconds and a few hundred megabytes. Each limit names the attack it stops.
"""

import struct
import zlib
from typing import NoReturn

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.reasons import Reason

MAX_PIXELS = 16_000_000
MAX_SIDE = 65_535  # pixels

_PNG_CRITICAL = {b"IHDR", b"PLTE", b"IDAT"}
# A progressive JPEG may repeat a nearly free scan over all pixels 100,000 times in 4 MiB.
_MAX_JPEG_SCANS = 64
# Pillow joins the EXIF segments of a JPEG one by one: the square of their number.
_MAX_JPEG_EXIF_SEGMENTS = 256
# Pillow makes an object for each strip or tile.
_MAX_TIFF_STRIPS = 65_536
# Codecs whose buffers are bounded by the picture (none, CCITT, LZW, JPEG, deflate, packed bits).
_TIFF_CODECS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}
_TIFF_STRIP_TAGS = {273: "StripOffsets", 279: "StripByteCounts", 324: "TileOffsets", 325: "TileByteCounts"}
_TIFF_COMPRESSION, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 259, 322, 323
_TIFF_SHORT, _TIFF_LONG = 3, 4

_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}  # lengths, in bytes, of the known versions


def container_of(payload: bytes) -> str:
    """The format of an encoded image, by its first bytes: one of Pillow's names.

    Raises:
        ItemRejected: NOT_AN_IMAGE, the format is not in the allow-list; TOO_MANY_PIXELS or
            UNREADABLE_IMAGE, its structure asks for more work than any digit needs.
    """
    name = _sniff(payload)
    if name is None:
        # What it is instead is not quoted: it may be no business of those who read the failure.
        found = "an empty file" if not payload else "no such picture by its first bytes"
        raise ItemRejected(Reason.NOT_AN_IMAGE, f"{found}; accepted are PNG, JPEG, GIF, BMP, WEBP and TIFF")
    if name == "PNG":
        _check_png(payload)
    elif name == "JPEG":
        _check_jpeg(payload)
    elif name == "TIFF":
        _check_tiff(payload)
    elif name == "WEBP":
        check_size(*_webp_size(payload))
    return name


def check_size(width: int, height: int) -> None:
    """Refuse a picture that is too large to be decoded.

    Raises:
        ItemRejected: TOO_MANY_PIXELS.
    """
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ItemRejected(
            Reason.TOO_MANY_PIXELS,
            f"{width} x {height} pixels; at most {MAX_PIXELS:,}, and {MAX_SIDE:,} a side, are decoded",
        )


def _sniff(payload: bytes) -> str | None:
    for name, prefixes in (
        ("PNG", (b"\x89PNG\r\n\x1a\n",)),
        ("JPEG", (b"\xff\xd8\xff",)),
        ("GIF", (b"GIF87a", b"GIF89a")),
        ("TIFF", (b"II*\0", b"MM\0*")),
    ):
        if payload.startswith(prefixes):
            return name
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return "WEBP"
    # Two letters are not much: text may begin with them too.
    if payload[:2] == b"BM" and int.from_bytes(payload[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return None


def _unreadable(detail: str) -> NoReturn:
    raise ItemRejected(Reason.UNREADABLE_IMAGE, detail)


def _check_png(payload: bytes) -> None:
    # Pillow reads past a wrong checksum of the pixels, and would make another picture of them.
    start = 8
    while (kind := payload[start + 4 : start + 8]) not in (b"IEND", b""):
        end = start + 8 + int.from_bytes(payload[start : start + 4], "big")
        checksum = payload[end : end + 4]
        if kind in _PNG_CRITICAL and zlib.crc32(payload[start + 4 : end]) != int.from_bytes(checksum, "big"):
            _unreadable(f"a PNG that is cut off, or whose {kind.decode()} fails its checksum")
        start = end + 4


def _check_jpeg(payload: bytes) -> None:
    # In coded data 0xff is never followed by these, so counting them needs no parser.
    scans, segments = payload.count(b"\xff\xda"), payload.count(b"\xff\xe1")
    if scans > _MAX_JPEG_SCANS:
        _unreadable(f"a JPEG of {scans} scans; at most {_MAX_JPEG_SCANS} are decoded")
    if segments > _MAX_JPEG_EXIF_SEGMENTS:
        _unreadable(f"a JPEG of {segments} EXIF segments; at most {_MAX_JPEG_EXIF_SEGMENTS} are read")


def _check_tiff(payload: bytes) -> None:
    tags = _tiff_tags(payload)
    for tag, title in _TIFF_STRIP_TAGS.items():
        count, _ = tags.get(tag, (0, 0))
        if count > _MAX_TIFF_STRIPS:
            _unreadable(f"a TIFF of {count} {title}; at most {_MAX_TIFF_STRIPS} are read")
    _, codec = tags.get(_TIFF_COMPRESSION, (1, 1))
    if codec not in _TIFF_CODECS:
        _unreadable(f"a TIFF with compression {codec}; accepted are {sorted(_TIFF_CODECS)}")
    # A tile is decoded whole, however little of it lies in the picture.
    check_size(*(tags.get(tag, (1, 0))[1] for tag in (_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH)))


def _tiff_tags(payload: bytes) -> dict[int, tuple[int, int]]:
    """The first directory: tag to (count of values, the value where it is one whole number)."""
    order = "<" if payload[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}L", payload, 4)
        (entries,) = struct.unpack_from(f"{order}H", payload, start)
        tags: dict[int, tuple[int, int]] = {}
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHL", payload, at)
            code = {_TIFF_SHORT: "H", _TIFF_LONG: "L"}.get(kind, "B")
            (value,) = struct.unpack_from(f"{order}{code}", payload, at + 8)
            if tag not in tags:  # as Pillow: the first of its kind counts
                tags[tag] = (count, value)
    except struct.error:
        _unreadable("a TIFF whose directory lies outside the file")
    return tags


def _webp_size(payload: bytes) -> tuple[int, int]:
    """The canvas that the first chunk declares: libwebp allocates it before anything is decoded."""
    kind, body = payload[12:16], payload[20:30]
    if len(body) < 10:
        _unreadable("a WEBP that ends before its size")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    return _unreadable(f"a WEBP that begins with the chunk {kind!r}")
