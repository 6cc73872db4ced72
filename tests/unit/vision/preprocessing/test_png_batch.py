"""Plain PNG files of digits are decoded in batches, with the same pixels as one by one."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.local.sample_digits import load, png
from mnist_ops.vision.preprocessing.decode import decode, decode_all
from mnist_ops.vision.preprocessing.png_batch import filtered_rows, unfilter

FRAME = zlib.compress(bytes(28 * 29))


def plain(data: bytes, *, crc: int | None = None, size: bytes = bytes((0, 0, 0, 28, 0, 0, 0, 28))) -> bytes:
    """Return a grey PNG file around a zlib stream."""

    def chunk(kind: bytes, content: bytes, check: int | None = None) -> bytes:
        found = zlib.crc32(kind + content) if check is None else check
        return len(content).to_bytes(4, "big") + kind + content + found.to_bytes(4, "big")

    header = chunk(b"IHDR", size + bytes((8, 0, 0, 0, 0)))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data, crc) + chunk(b"IEND", b"")


def filtered(kind: int, digit: NDArray[np.uint8]) -> bytes:
    """Return a digit's rows, all of them filtered the same way, as PNG defines it."""
    wide = digit.astype(int)
    left = np.pad(wide, ((0, 0), (1, 0)))[:, :-1]
    up = np.pad(wide, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(wide, ((1, 0), (1, 0)))[:-1, :-1]
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    paeth = np.where(
        (to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner)
    )
    predicted = (np.zeros_like(wide), left, up, (left + up) // 2, paeth)[kind]
    rows = ((wide - predicted) % 256).astype(np.uint8)
    return b"".join(bytes([kind]) + row.tobytes() for row in rows)


def test_a_thousand_files_give_their_digits() -> None:
    """In their order."""
    digits, _ = load("train")
    files = [png(digit) for digit in digits[:1_000]]
    decoded, rejected = decode_all(files)
    assert not rejected
    np.testing.assert_array_equal(decoded, digits[:1_000])


@given(
    arrays.arrays(np.uint8, (2, 28, 28)),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_every_filter_is_undone_regardless_of_the_file_before(
    digits: NDArray[np.uint8], kinds: tuple[int, int]
) -> None:
    """A filter that refers to the row above never uses a row of another picture."""
    rows = [filtered(kind, digit) for kind, digit in zip(kinds, digits, strict=True)]
    assert [filtered_rows(plain(zlib.compress(row))) for row in rows] == rows
    np.testing.assert_array_equal(unfilter(rows), digits)


@pytest.mark.parametrize(
    "file",
    [
        plain(FRAME, crc=1),
        plain(FRAME[:-5]),
        plain(zlib.compress(bytes(28 * 29 - 1))),
        plain(zlib.compress(bytes(28 * 29 + 1))),
        plain(zlib.compress(bytes([5]) + bytes(28 * 29 - 1))),
        plain(b"not a zlib stream"),
        plain(FRAME)[:-12],
        plain(FRAME)[:50],
        plain(zlib.compress(bytes(30 * 31)), size=bytes((0, 0, 0, 30, 0, 0, 0, 30))),
        b"GIF89a",
        b"",
    ],
    ids=["crc", "cut", "short", "long", "filter", "junk", "no end", "half", "30 x 30", "gif", "empty"],
)
def test_any_other_file_is_left_to_the_general_decoder(file: bytes) -> None:
    """Which decodes it or gives the reason why it cannot be decoded."""
    assert filtered_rows(file) is None


def test_a_decompression_bomb_is_not_decompressed() -> None:
    """Of a stream of 256 MiB only the first bytes are decompressed."""
    bomb = plain(zlib.compress(bytes(256 << 20)))
    assert filtered_rows(bomb) is None


def test_a_stream_in_several_chunks_is_joined(digit: NDArray[np.uint8]) -> None:
    """Some encoders write IDAT chunks of a few bytes."""
    data = zlib.compress(filtered(0, digit))
    whole = plain(data)
    start = whole.index(b"IDAT") - 4
    chunks = b"".join(
        len(part).to_bytes(4, "big") + b"IDAT" + part + zlib.crc32(b"IDAT" + part).to_bytes(4, "big")
        for part in (data[:7], data[7:])
    )
    np.testing.assert_array_equal(decode(whole[:start] + chunks + whole[whole.index(b"IEND") - 4 :]), digit)


def test_a_batch_gives_what_each_gives_alone(digit: NDArray[np.uint8]) -> None:
    """Plain digits, other formats, inverted digits and junk in one batch."""
    buffer = io.BytesIO()
    Image.fromarray(digit).resize((56, 56)).save(buffer, "JPEG")
    files = [png(digit), b"junk", png(255 - digit), buffer.getvalue(), png(digit), bytes(5 << 20)]
    digits, rejected = decode_all(files)
    assert sorted(rejected) == [1, 5]
    for number, file in enumerate(files):
        if number in rejected:
            with pytest.raises(ItemRejected) as alone:
                decode(file)
            assert (alone.value.reason, alone.value.detail) == (
                rejected[number].reason,
                rejected[number].detail,
            )
        else:
            np.testing.assert_array_equal(digits[number], decode(file))
