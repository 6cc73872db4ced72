"""Recognise an image's format and check its structure before a decoder reads it.

Only the formats of an allow-list are accepted, and only files that are sure to be decoded within seconds and
a few hundred megabytes. The comment on each limit names the attack that it stops.
"""

import struct
import zlib
from typing import NoReturn

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.reasons import Reason

MAX_PIXELS = 16_000_000
MAX_SIDE = 65_535  # pixels

_PNG_CRITICAL = {b"IHDR", b"PLTE", b"IDAT"}
# In 4 MiB, a progressive JPEG can hold 100,000 nearly empty scans, and each is decoded over all pixels.
_MAX_JPEG_SCANS = 64
# Pillow concatenates the EXIF segments of a JPEG one by one: quadratic in their number.
_MAX_JPEG_EXIF_SEGMENTS = 256
# Pillow creates an object for each strip or tile.
_MAX_TIFF_STRIPS = 65_536
# Codecs whose buffers are no larger than the picture (none, CCITT, LZW, JPEG, deflate, packed bits).
_TIFF_CODECS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}
_TIFF_STRIP_TAGS = {273: "StripOffsets", 279: "StripByteCounts", 324: "TileOffsets", 325: "TileByteCounts"}
_TIFF_COMPRESSION, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 259, 322, 323
_TIFF_SHORT, _TIFF_LONG = 3, 4

# By format, as Pillow names it; WEBP and BMP are not told by a prefix alone.
_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
}
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}  # bytes; the header sizes of the known versions


def format_of(payload: bytes) -> str:
    """The format of an encoded image by its first bytes, as Pillow names it, after a check of its structure.

    Raises:
        ItemRejected: NOT_AN_IMAGE, the format is not in the allow-list; TOO_MANY_PIXELS or
            UNREADABLE_IMAGE, the file is damaged or decoding it could take too much time or memory.
    """
    name = _sniff(payload)
    if name is None:
        # The bytes are not quoted: they may be confidential, and the failure is shown to people.
        found = "the first bytes are not those of an accepted image" if payload else "an empty file"
        raise ItemRejected(Reason.NOT_AN_IMAGE, f"{found}; accepted formats: PNG, JPEG, GIF, BMP, WEBP, TIFF")
    if check := _CHECKS.get(name):
        check(payload)
    return name


def check_size(width: int, height: int) -> None:
    """Check that a picture is not too large to be decoded.

    Raises:
        ItemRejected: TOO_MANY_PIXELS.
    """
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ItemRejected(
            Reason.TOO_MANY_PIXELS,
            f"{width} x {height} pixels; the limits are {MAX_PIXELS:,}, and {MAX_SIDE:,} per side",
        )


def _sniff(payload: bytes) -> str | None:
    for name, prefixes in _SIGNATURES.items():
        if payload.startswith(prefixes):
            return name
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return "WEBP"
    # Text may also begin with these two letters, so the size of the header is checked as well.
    if payload[:2] == b"BM" and int.from_bytes(payload[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return None


def _unreadable(detail: str) -> NoReturn:
    raise ItemRejected(Reason.UNREADABLE_IMAGE, detail)


def _check_png(payload: bytes) -> None:
    # Pillow ignores a wrong checksum of the pixel data and would return a different picture.
    start = 8
    while (kind := payload[start + 4 : start + 8]) not in (b"IEND", b""):
        end = start + 8 + int.from_bytes(payload[start : start + 4], "big")
        checksum = payload[end : end + 4]
        if kind in _PNG_CRITICAL and zlib.crc32(payload[start + 4 : end]) != int.from_bytes(checksum, "big"):
            _unreadable(f"a PNG that is truncated, or whose {kind.decode()} chunk has a wrong checksum")
        start = end + 4


def _check_jpeg(payload: bytes) -> None:
    # Inside entropy-coded data 0xff is never followed by these bytes, so counting them needs no parser.
    scans, segments = payload.count(b"\xff\xda"), payload.count(b"\xff\xe1")
    if scans > _MAX_JPEG_SCANS:
        _unreadable(f"a JPEG with {scans} scans; the limit is {_MAX_JPEG_SCANS}")
    if segments > _MAX_JPEG_EXIF_SEGMENTS:
        _unreadable(f"a JPEG with {segments} EXIF segments; the limit is {_MAX_JPEG_EXIF_SEGMENTS}")


def _check_tiff(payload: bytes) -> None:
    tags = _tiff_tags(payload)
    for tag, title in _TIFF_STRIP_TAGS.items():
        count, _ = tags.get(tag, (0, 0))
        if count > _MAX_TIFF_STRIPS:
            _unreadable(f"a TIFF with {count} {title}; the limit is {_MAX_TIFF_STRIPS}")
    _, codec = tags.get(_TIFF_COMPRESSION, (1, 1))
    if codec not in _TIFF_CODECS:
        _unreadable(f"a TIFF with compression {codec}; accepted: {sorted(_TIFF_CODECS)}")
    # A tile is decoded as a whole, even if only a small part of it is inside the picture.
    check_size(*(tags.get(tag, (1, 0))[1] for tag in (_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH)))


def _tiff_tags(payload: bytes) -> dict[int, tuple[int, int]]:
    """The first directory: by tag, the count of its values and, if it is one whole number, the value."""
    order = "<" if payload[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}L", payload, 4)
        (entries,) = struct.unpack_from(f"{order}H", payload, start)
        tags: dict[int, tuple[int, int]] = {}
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHL", payload, at)
            code = {_TIFF_SHORT: "H", _TIFF_LONG: "L"}.get(kind, "B")
            (value,) = struct.unpack_from(f"{order}{code}", payload, at + 8)
            if tag not in tags:  # as in Pillow, the first entry of a tag counts
                tags[tag] = (count, value)
    except struct.error:
        _unreadable("a TIFF whose directory is outside the file")
    return tags


def _check_webp(payload: bytes) -> None:
    # libwebp allocates the canvas of the first chunk before it decodes anything.
    kind, body = payload[12:16], payload[20:30]
    if len(body) < 10:
        _unreadable("a WEBP that ends before its width and height")
    if kind == b"VP8X":
        check_size(1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        check_size(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        check_size(width & 0x3FFF, height & 0x3FFF)
    else:
        _unreadable(f"a WEBP that begins with the chunk {kind!r}")


_CHECKS = {"PNG": _check_png, "JPEG": _check_jpeg, "TIFF": _check_tiff, "WEBP": _check_webp}
