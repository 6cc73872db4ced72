"""Draw MNIST's digits at any size and position on eleven kinds of background.

`compare` classifies each drawing twice: as `decode` normalises it, and after plain resizing.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mnist_ops.local import sample_digits
from mnist_ops.vision.data.examples import SIDE
from mnist_ops.vision.preprocessing.decode import decode

SEED = 20_261_121
SMALLEST, LARGEST = 20, 200  # pixels; the longer side of a drawn digit
LARGEST_CANVAS = 400  # pixels; the side of a picture
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # ITU-R 601, the usual weights for grey

Colour = NDArray[np.float64]  # (3,), 0 to 255
Picture = NDArray[np.float64]  # (H, W, 3), 0 to 255; or (H, W, 1), the share of each pixel that ink covers
Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture of one digit.

    Attributes:
        png: the picture, encoded.
        label: 0 to 9.
        size: pixels of the digit's longer side.
        background: one of `BACKGROUNDS`.
    """

    png: bytes
    label: int
    size: int
    background: str


def drawings(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], count: int, seed: int = SEED
) -> Iterator[Drawing]:
    """Draw `count` different digits out of images uint8 (N, 28, 28), on each background in turn."""
    random = np.random.default_rng(seed)
    names = tuple(BACKGROUNDS)
    for number, index in enumerate(random.permutation(len(images))[:count]):
        background = names[number % len(names)]
        size = int(random.integers(SMALLEST, LARGEST + 1))
        pixels = draw(images[index], size, background, random)
        yield Drawing(encoded(pixels), int(labels[index]), size, background)


def draw(
    digit: NDArray[np.uint8], size: int, background: str, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one digit uint8 (28, 28), its longer side `size` pixels, on a background: uint8 (H, W, 3)."""
    stencil = _stencil(digit, size, thin=background == "thin black on white")
    sides = [int(random.integers(max(32, side), LARGEST_CANVAS + 1)) for side in stencil.shape]
    top, left = (
        int(random.integers(0, side - own + 1)) for side, own in zip(sides, stencil.shape, strict=True)
    )
    cover = np.zeros((*sides, 1))
    cover[top : top + stencil.shape[0], left : left + stencil.shape[1], 0] = stencil
    picture = BACKGROUNDS[background](cover, random)
    drawn: NDArray[np.uint8] = np.rint(picture.clip(0, 255)).astype(np.uint8)
    return drawn


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels uint8 (H, W) or (H, W, 3) as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def resized(png: bytes) -> NDArray[np.uint8]:
    """A picture made grey and resized as a whole to uint8 (28, 28); `decode` corrects its polarity."""
    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return decode(sample_digits.png(np.asarray(small)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether one drawing was classified correctly, harmonised by `decode` and after plain resizing."""

    drawing: Drawing
    harmonised: bool
    plain: bool


def compare(forward: Forward, drawn: Sequence[Drawing]) -> list[Outcome]:
    """Classify each drawing as `decode` gives it, and after plain resizing."""
    labels = np.array([drawing.label for drawing in drawn])
    harmonised = correct(forward, np.stack([decode(drawing.png) for drawing in drawn]), labels)
    plain = correct(forward, np.stack([resized(drawing.png) for drawing in drawn]), labels)
    return [Outcome(*parts) for parts in zip(drawn, harmonised.tolist(), plain.tolist(), strict=True)]


def correct(forward: Forward, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of the digits uint8 (N, 28, 28) are classified correctly."""
    classified: NDArray[np.bool_] = forward(images).argmax(axis=1) == labels
    return classified


def _stencil(digit: NDArray[np.uint8], size: int, *, thin: bool) -> NDArray[np.float64]:
    """The share of each pixel that ink covers, 0 to 1, cropped to the digit."""
    rows, columns = (np.flatnonzero(digit.any(axis=axis)) for axis in (1, 0))
    ink = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = size / max(ink.size)
    ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), 3)
    if thin and size >= 40:
        ink = ink.filter(ImageFilter.MinFilter(2 * (size // 40) + 1))
    return np.asarray(ink) / 255.0


def _colour(random: np.random.Generator, low: float, high: float) -> Colour:
    """A colour whose brightness is between two bounds."""
    while True:
        colour = random.uniform(0, 255, 3)
        if low <= colour @ _BRIGHTNESS <= high:
            return colour


def _mixed(cover: Picture, background: Colour, ink: Colour) -> Picture:
    return background + cover * (ink - background)


def _dark_on_light(cover: Picture, random: np.random.Generator) -> Picture:
    return _mixed(cover, _colour(random, 170, 250), _colour(random, 5, 90))


def _light_on_dark(cover: Picture, random: np.random.Generator) -> Picture:
    return _mixed(cover, _colour(random, 5, 90), _colour(random, 170, 250))


def _equally_bright(cover: Picture, random: np.random.Generator) -> Picture:
    while True:
        background, ink = random.uniform(0, 255, 3), random.uniform(0, 255, 3)
        if abs((background - ink) @ _BRIGHTNESS) < 10 and np.abs(background - ink).max() > 90:
            return _mixed(cover, background, ink)


def _noisy(cover: Picture, random: np.random.Generator) -> Picture:
    clear = (_dark_on_light, _light_on_dark)[int(random.integers(2))](cover, random)
    return clear + random.normal(0, random.uniform(4, 16), clear.shape)


def _with_gradient(cover: Picture, random: np.random.Generator) -> Picture:
    """Light from one side: up to 100 grey levels between two opposite edges."""
    clear = (_dark_on_light, _light_on_dark)[int(random.integers(2))](cover, random)
    across, down = (np.linspace(-0.5, 0.5, side) for side in (cover.shape[1], cover.shape[0]))
    angle = random.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * across[None, :] + np.sin(angle) * down[:, None]
    shaded: Picture = clear + slope[..., None] * random.uniform(30, 100)
    return shaded


def _with_specks(cover: Picture, random: np.random.Generator) -> Picture:
    """As a scanner adds them: specks of one to three pixels, in the ink's colour."""
    specked = cover.copy()
    for _ in range(int(random.integers(3, 16))):
        top, left = (int(random.integers(0, side - 2)) for side in cover.shape[:2])
        height, width = random.integers(1, 4, 2)
        specked[top : top + height, left : left + width] = 1
    return _dark_on_light(specked, random)


def _photographed(cover: Picture, random: np.random.Generator) -> Picture:
    """As a phone's camera stores it: a light gradient, noise and JPEG artefacts."""
    raw = _with_gradient(cover, random) + random.normal(0, 5, cover.shape)
    buffer = io.BytesIO()
    Image.fromarray(raw.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=70)
    with Image.open(buffer) as image:
        return np.asarray(image).astype(np.float64)


BLACK, WHITE = np.zeros(3), np.full(3, 255.0)

BACKGROUNDS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "black on white": lambda cover, _: _mixed(cover, WHITE, BLACK),
    "white on black": lambda cover, _: _mixed(cover, BLACK, WHITE),
    "a colour on white": lambda cover, random: _mixed(cover, WHITE, _colour(random, 5, 160)),
    "dark on a light colour": _dark_on_light,
    "light on a dark colour": _light_on_dark,
    "two colours of one brightness": _equally_bright,
    "thin black on white": lambda cover, _: _mixed(cover, WHITE, BLACK),
    "noise": _noisy,
    "light gradient": _with_gradient,
    "specks": _with_specks,
    "a photograph": _photographed,
}
