"""Digits drawn at any position, size and colour are normalised as MNIST was."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mnist_ops.local.sample_digits import load, png
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.preprocessing.background import Background, subtract_background
from mnist_ops.vision.preprocessing.components import find_digit
from mnist_ops.vision.preprocessing.decode import decode
from mnist_ops.vision.preprocessing.grayscale import to_grey
from mnist_ops.vision.preprocessing.normalize import harmonise
from tests.support.digit_drawings import BACKGROUNDS, Forward, compare, correct, draw, drawings, encoded

DIGITS = st.integers(0, 199).map(lambda index: load("test")[0][index])
SEEDS = st.integers(0, 10_000).map(np.random.default_rng)


def enlarged(digit: NDArray[np.uint8], times: int, side: int, top: int, left: int) -> NDArray[np.uint8]:
    """A digit cropped to its ink and enlarged `times` times, at a position in a black square."""
    rows, columns = (np.flatnonzero(digit.any(axis=axis)) for axis in (1, 0))
    ink = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ink = ink.repeat(times, axis=0).repeat(times, axis=1)
    picture = np.zeros((side, side), np.uint8)
    picture[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return picture


@pytest.fixture(scope="module")
def forward(trained: TrainedModel) -> Forward:
    """The small model in torch."""
    return torch_forward(trained.config.network, trained.weights, torch.device("cpu").type)


def test_drawings_gain_ten_points_on_every_background(forward: Forward) -> None:
    """Over plain resizing; and their accuracy is within three points of that on clean digits."""
    images, labels = load("test")
    outcomes = compare(forward, list(drawings(images, labels, 33 * len(BACKGROUNDS))))
    for background in BACKGROUNDS:
        group = [outcome for outcome in outcomes if outcome.drawing.background == background]
        assert len(group) == 33
        gain = np.mean([outcome.harmonised for outcome in group]) - np.mean([each.plain for each in group])
        assert gain >= 0.1, background
    clean = correct(forward, images, labels).mean()
    assert np.mean([outcome.harmonised for outcome in outcomes]) >= clean - 0.03


def test_clean_digits_lose_nothing() -> None:
    """Encoding and decoding does not change their pixels; negatives are inverted back."""
    images, _ = load("test")
    decoded = np.stack([decode(png(image)) for image in images])
    np.testing.assert_array_equal(decoded, images)
    turned = np.stack([decode(png(np.invert(image))) for image in images[:500]])
    np.testing.assert_array_equal(turned, images[:500])


@given(DIGITS, st.integers(2, 6), st.integers(0, 30), st.integers(0, 30))
def test_the_position_does_not_matter(digit: NDArray[np.uint8], times: int, top: int, left: int) -> None:
    """On an even background not a pixel changes."""
    side = 20 * times + 60
    here = enlarged(digit, times, side, 30, 30)
    there = enlarged(digit, times, side, 15 + top, 15 + left)
    np.testing.assert_array_equal(harmonise(here), harmonise(there))


@given(DIGITS, st.integers(2, 9))
def test_the_size_does_not_matter(digit: NDArray[np.uint8], times: int) -> None:
    """Enlarged two to nine times, the digit is the same within a few grey levels."""
    small = harmonise(enlarged(digit, 2, 100, 20, 20)).astype(int)
    large = harmonise(enlarged(digit, times, 50 * times, 10 * times, 10 * times)).astype(int)
    assert np.abs(small - large).mean() < 4


@given(DIGITS, st.sampled_from(list(BACKGROUNDS)), st.integers(20, 120), SEEDS)
def test_a_drawing_and_its_negative_give_the_same_digit(
    digit: NDArray[np.uint8], background: str, size: int, random: np.random.Generator
) -> None:
    """Pen or chalk: ink may be darker or lighter than the background."""
    grey = np.asarray(Image.fromarray(draw(digit, size, background, random)).convert("L"))
    np.testing.assert_array_equal(harmonise(grey), harmonise(np.invert(grey)))


@given(DIGITS, SEEDS)
def test_a_drawing_is_sized_and_centred_as_mnist(
    digit: NDArray[np.uint8], random: np.random.Generator
) -> None:
    """Its longer side has 20 pixels, up to a hairline's thickening; its centre of mass is in the middle."""
    drawn = decode(encoded(draw(digit, 90, "dark on a light colour", random))).astype(int)
    rows, columns = np.nonzero(drawn > 32)
    assert 18 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 22
    centres = [drawn.sum(axis=1 - axis) @ np.arange(28) / drawn.sum() for axis in (0, 1)]
    assert centres == pytest.approx([14, 14], abs=1)


@pytest.mark.parametrize("ink", [(0, 102, 0), (60, 60, 216), (0, 90, 60)])
def test_ink_as_bright_as_its_background_is_seen(digit: NDArray[np.uint8], ink: tuple[int, int, int]) -> None:
    """A red background as bright as the ink: grey by brightness would be nearly blank."""
    cover = enlarged(digit, 4, 140, 20, 30)[..., None] / 255
    background = np.array([min(255, np.dot(ink, (0.299, 0.587, 0.114)) / 0.299), 0, 0])
    picture = np.rint(background + cover * (np.array(ink) - background)).astype(np.uint8)
    flat = np.asarray(Image.fromarray(picture).convert("L"))
    assert np.ptp(flat) < 40
    drawn = decode(encoded(picture)).astype(int)
    reference = harmonise(enlarged(digit, 4, 140, 20, 30)).astype(int)
    assert np.abs(drawn - reference).mean() < 4


def test_yellow_on_white_is_seen(digit: NDArray[np.uint8]) -> None:
    """Its brightness is 89 % of white's."""
    picture = np.full((140, 140, 3), 255, np.uint8)
    picture[..., 2] -= enlarged(digit, 4, 140, 20, 30)
    np.testing.assert_array_equal(decode(encoded(picture)), harmonise(enlarged(digit, 4, 140, 20, 30)))


def test_a_grey_picture_keeps_its_grey_levels(digit: NDArray[np.uint8]) -> None:
    """Three equal channels have no colour."""
    grey = Image.fromarray(digit)
    np.testing.assert_array_equal(np.asarray(to_grey(Image.merge("RGB", (grey,) * 3))), digit)


@pytest.mark.parametrize("fall", [(60, 0), (0, -90), (50, 50)])
def test_a_light_gradient_is_subtracted(digit: NDArray[np.uint8], fall: tuple[int, int]) -> None:
    """Nothing of the background remains, and all of the ink."""
    ink = enlarged(digit, 3, 120, 25, 40)
    down, across = (np.linspace(0, level, 120) for level in fall)
    light = np.add.outer(down, across)
    light += 120 - light.min()
    picture = np.rint(light - 0.4 * ink).clip(0, 255).astype(np.uint8)
    subtracted, noise = subtract_background(picture)
    assert noise < 1
    assert np.abs(subtracted - 0.4 * ink).max() <= 2
    assert np.abs(harmonise(picture).astype(int) - harmonise(ink)).mean() < 4


def test_the_noise_of_the_background_is_measured() -> None:
    """As a standard deviation, also where ink touches the edge."""
    random = np.random.default_rng(0)
    grey = random.normal(180, 7, (200, 300)).clip(0, 255)
    grey[:40, :60] = 20
    background = Background.fit(grey.astype(np.uint8))
    assert background.noise == pytest.approx(7, rel=0.25)
    assert background.middle == pytest.approx(180, abs=3)


def test_specks_far_from_the_digit_are_dropped(digit: NDArray[np.uint8]) -> None:
    """In all corners; the digit's pixels are the same as without them."""
    clean = enlarged(digit, 4, 300, 110, 100)
    specked = clean.copy()
    for top, left in ((3, 5), (290, 7), (12, 280), (294, 295), (60, 20)):
        specked[top : top + 3, left : left + 3] = 255
    np.testing.assert_array_equal(harmonise(specked), harmonise(clean))


def test_a_digit_of_two_components_keeps_both() -> None:
    """The bar of a five need not touch the rest."""
    ink = np.zeros((120, 120), np.uint8)
    ink[40:80, 40:60] = 255
    ink[30:34, 42:58] = 255
    rows, columns, clean = find_digit(ink)
    assert (rows, columns) == (slice(30, 80), slice(40, 60))
    assert clean[:4, 2:18].all()


def test_a_hairline_becomes_as_wide_as_a_pen_stroke() -> None:
    """Scaled down, two pixels of two hundred cover a fifth of a pixel; the result covers more than one."""
    picture = np.full((220, 220), 255, np.uint8)
    picture[10:210, 108:110] = 0
    picture[10:12, 60:110] = 0
    drawn = harmonise(picture)
    assert drawn[12:20].sum(axis=1).min() >= 1.3 * 255


@pytest.mark.parametrize("noise", [0, 3, 8])
@pytest.mark.parametrize("fall", [0, 80])
@pytest.mark.parametrize("side", [29, 60, 400])
def test_a_background_without_ink_is_blank(noise: float, fall: float, side: int) -> None:
    """With noise or a light gradient."""
    random = np.random.default_rng(1)
    background = random.normal(150, noise, (side, side)) + np.linspace(0, fall, side)
    assert not harmonise(background.clip(0, 255).astype(np.uint8)).any()
