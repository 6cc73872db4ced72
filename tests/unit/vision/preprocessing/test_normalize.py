"""MNIST's own normalisation, and the pictures that it is applied to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from mnist_ops.local.sample_digits import load
from mnist_ops.vision.preprocessing.normalize import harmonise, ink_on_black, normalise

PICTURES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=60))


def test_no_digit_of_the_sample_is_inverted() -> None:
    """White on black stays as it is, and an inverted digit is inverted back."""
    images = load("test")[0]
    np.testing.assert_array_equal(ink_on_black(images), images)
    np.testing.assert_array_equal(ink_on_black(255 - images), images)


@given(PICTURES)
def test_any_picture_becomes_a_digit_of_28_pixels(grey: NDArray[np.uint8]) -> None:
    """Size, shape and content do not matter."""
    digit = harmonise(grey)
    assert digit.dtype == np.uint8
    assert digit.shape == (28, 28)


@given(PICTURES)
def test_a_picture_and_its_negative_give_the_same_digit(grey: NDArray[np.uint8]) -> None:
    """Nobody has to say whether the ink is dark or light."""
    negative = np.invert(grey)
    (ink,), (ink_of_negative,) = ink_on_black(grey[None]), ink_on_black(negative[None])
    if not np.array_equal(ink, ink_of_negative):
        # Border and centre are equally bright, so the polarity cannot be decided.
        np.testing.assert_array_equal(ink, np.invert(ink_of_negative))
        return
    np.testing.assert_array_equal(harmonise(grey), harmonise(negative))


@pytest.mark.parametrize(("height", "width"), [(20, 4), (4, 20), (100, 30), (7, 9)])
def test_the_longer_side_fills_twenty_pixels(height: int, width: int) -> None:
    """The aspect ratio is kept."""
    ink = np.zeros((height * 3, width * 3), np.uint8)
    ink[height : 2 * height, width : 2 * width] = 200
    rows, columns = np.nonzero(normalise(ink))
    scale = 20 / max(height, width)
    assert np.ptp(rows) + 1 == round(height * scale)
    assert np.ptp(columns) + 1 == round(width * scale)


def test_moving_the_ink_changes_nothing() -> None:
    """The centre of mass decides the position."""
    ink = load("test")[0][0]
    digits = []
    for top, left in ((0, 0), (30, 5), (71, 72)):
        picture = np.zeros((100, 100), np.uint8)
        picture[top : top + 28, left : left + 28] = ink
        digits.append(normalise(picture))
    np.testing.assert_array_equal(digits[0], digits[1])
    np.testing.assert_array_equal(digits[0], digits[2])


def test_a_grey_background_and_pale_ink_are_stretched() -> None:
    """In a photograph the background is not white and the ink is not black."""
    picture = np.full((60, 60), 170, np.uint8)
    picture[20:40, 28:32] = 90
    digit = normalise(ink_on_black(picture[None])[0])
    assert (digit.min(), digit.max()) == (0, 255)
