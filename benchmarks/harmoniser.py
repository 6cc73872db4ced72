"""Measure what the harmoniser gains on drawings, beside plain resizing: `python benchmarks/harmoniser.py`.

Pastes 2,000 of MNIST's test digits at random sizes (20 to 200 pixels) and places on grounds of eleven
kinds, encodes them as PNG, and classifies what `decode` makes of them, and what it makes of the same
pictures once they were made grey and resized to 28 by 28 as a whole. The classifier is a LeNet-5, trained
within a minute on the train split. The digits are those of the folder that MNIST_OPS_DATA_DIR names, else
the project's sample. Prints a table; with `--write` it also goes into docs/harmoniser.md.
"""

import argparse
import io
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mnist_ops.local import sample_digits
from mnist_ops.settings import Settings
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import SIDE, Examples
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.preprocessing.decode import decode
from mnist_ops.vision.training.trainer import pick_device, train

DRAWINGS, SEED = 2_000, 20_261_121
SMALLEST, LARGEST = 20, 200  # pixels of a drawn digit's longer side
LARGEST_CANVAS = 400  # pixels of a side
BANDS = ((20, 39), (40, 79), (80, 139), (140, 200))
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as everybody makes grey

Colour = NDArray[np.float64]  # (3,), 0 to 255
Picture = NDArray[np.float64]  # (H, W, 3), 0 to 255
Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A digit on a picture of its own.

    Attributes:
        png: the picture, encoded.
        label: 0 to 9.
        size: pixels of the digit's longer side.
        ground: what it is drawn on: one of `GROUNDS`.
    """

    png: bytes
    label: int
    size: int
    ground: str


def drawings(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], count: int, seed: int = SEED
) -> Iterator[Drawing]:
    """Draw `count` different digits out of images uint8 (N, 28, 28); the grounds take turns."""
    random = np.random.default_rng(seed)
    names = tuple(GROUNDS)
    for turn, index in enumerate(random.permutation(len(images))[:count]):
        ground = names[turn % len(names)]
        size = int(random.integers(SMALLEST, LARGEST + 1))
        pixels = draw(images[index], size, ground, random)
        yield Drawing(encoded(pixels), int(labels[index]), size, ground)


def draw(digit: NDArray[np.uint8], size: int, ground: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """One digit uint8 (28, 28), its longer side `size` pixels, on a ground: uint8 (H, W, 3)."""
    stencil = _stencil(digit, size, thin=ground == "thin black on white")
    sides = [int(random.integers(max(32, side), LARGEST_CANVAS + 1)) for side in stencil.shape]
    top, left = (
        int(random.integers(0, side - own + 1)) for side, own in zip(sides, stencil.shape, strict=True)
    )
    cover = np.zeros((*sides, 1))
    cover[top : top + stencil.shape[0], left : left + stencil.shape[1], 0] = stencil
    picture = GROUNDS[ground](cover, random)
    drawn: NDArray[np.uint8] = np.rint(picture.clip(0, 255)).astype(np.uint8)
    return drawn


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels uint8 (H, W) or (H, W, 3) as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def plainly(png: bytes) -> NDArray[np.uint8]:
    """The other road to uint8 (28, 28): the whole picture, made grey and resized; `decode` turns it."""
    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return decode(sample_digits.png(np.asarray(small)))


def _stencil(digit: NDArray[np.uint8], size: int, *, thin: bool) -> NDArray[np.float64]:
    """How much of each pixel the ink covers, 0 to 1, over the digit's own box."""
    rows, columns = (np.flatnonzero(digit.any(axis=axis)) for axis in (1, 0))
    ink = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = size / max(ink.size)
    ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), 3)
    if thin and size >= 40:
        ink = ink.filter(ImageFilter.MinFilter(2 * (size // 40) + 1))
    return np.asarray(ink) / 255.0


def _colour(random: np.random.Generator, low: float, high: float) -> Colour:
    """A colour whose brightness lies between two bounds."""
    while True:
        colour = random.uniform(0, 255, 3)
        if low <= colour @ _BRIGHTNESS <= high:
            return colour


def _mixed(cover: Picture, paper: Colour, ink: Colour) -> Picture:
    return paper + cover * (ink - paper)


def _dark_on_light(cover: Picture, random: np.random.Generator) -> Picture:
    return _mixed(cover, _colour(random, 170, 250), _colour(random, 5, 90))


def _light_on_dark(cover: Picture, random: np.random.Generator) -> Picture:
    return _mixed(cover, _colour(random, 5, 90), _colour(random, 170, 250))


def _equally_bright(cover: Picture, random: np.random.Generator) -> Picture:
    while True:
        paper, ink = random.uniform(0, 255, 3), random.uniform(0, 255, 3)
        if abs((paper - ink) @ _BRIGHTNESS) < 10 and np.abs(paper - ink).max() > 90:
            return _mixed(cover, paper, ink)


def _noisy(cover: Picture, random: np.random.Generator) -> Picture:
    clear = (_dark_on_light, _light_on_dark)[int(random.integers(2))](cover, random)
    return clear + random.normal(0, random.uniform(4, 16), clear.shape)


def _shaded(cover: Picture, random: np.random.Generator) -> Picture:
    """Light falls from one side: up to 100 grey levels between two edges."""
    clear = (_dark_on_light, _light_on_dark)[int(random.integers(2))](cover, random)
    across, down = (np.linspace(-0.5, 0.5, side) for side in (cover.shape[1], cover.shape[0]))
    angle = random.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * across[None, :] + np.sin(angle) * down[:, None]
    shaded: Picture = clear + slope[..., None] * random.uniform(30, 100)
    return shaded


def _dusty(cover: Picture, random: np.random.Generator) -> Picture:
    """A scan: specks of one to three pixels, of the ink's own colour."""
    dusty = cover.copy()
    for _ in range(int(random.integers(3, 16))):
        top, left = (int(random.integers(0, side - 2)) for side in cover.shape[:2])
        height, width = random.integers(1, 4, 2)
        dusty[top : top + height, left : left + width] = 1
    return _dark_on_light(dusty, random)


def _photographed(cover: Picture, random: np.random.Generator) -> Picture:
    """As a telephone's camera keeps it: slanting light, noise, the artefacts of JPEG."""
    raw = _shaded(cover, random) + random.normal(0, 5, cover.shape)
    buffer = io.BytesIO()
    Image.fromarray(raw.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=70)
    with Image.open(buffer) as image:
        return np.asarray(image).astype(np.float64)


BLACK, WHITE = np.zeros(3), np.full(3, 255.0)

GROUNDS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "black on white": lambda cover, _: _mixed(cover, WHITE, BLACK),
    "white on black": lambda cover, _: _mixed(cover, BLACK, WHITE),
    "a colour on white": lambda cover, random: _mixed(cover, WHITE, _colour(random, 5, 160)),
    "dark on a light colour": _dark_on_light,
    "light on a dark colour": _light_on_dark,
    "two colours of one brightness": _equally_bright,
    "thin black on white": lambda cover, _: _mixed(cover, WHITE, BLACK),
    "noise": _noisy,
    "slanting light": _shaded,
    "dust": _dusty,
    "a photograph": _photographed,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one drawing on the two roads."""

    drawing: Drawing
    harmonised: bool
    plain: bool


def compare(forward: Forward, drawn: Sequence[Drawing]) -> list[Outcome]:
    """Classify each drawing as `decode` gives it, and as plain resizing does."""
    labels = np.array([drawing.label for drawing in drawn])
    harmonised = right(forward, np.stack([decode(drawing.png) for drawing in drawn]), labels)
    plain = right(forward, np.stack([plainly(drawing.png) for drawing in drawn]), labels)
    return [Outcome(*parts) for parts in zip(drawn, harmonised.tolist(), plain.tolist(), strict=True)]


def right(forward: Forward, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of the digits uint8 (N, 28, 28) are recognised."""
    recognised: NDArray[np.bool_] = forward(images).argmax(axis=1) == labels
    return recognised


def quick_classifier(training: Examples, validation: Examples) -> Forward:
    """A LeNet-5 of a minute."""
    trained = train(training, validation, TrainingConfig(epochs=3), pick_device("cpu"))
    return torch_forward(trained.config.network, trained.weights, "cpu")


def microseconds(payloads: Sequence[bytes], rounds: int = 5) -> float:
    """CPU time of decoding one of them, the least of some rounds."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for payload in payloads:
            decode(payload)
        times.append((time.process_time() - started) / len(payloads))
    return min(times) * 1e6


def main() -> None:
    """Train, draw, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/harmoniser.md")
    write = parser.parse_args().write
    folder = Settings().data_dir
    images, labels = sample_digits.load("train", folder or sample_digits.SAMPLE)
    learned = len(images) * 9 // 10
    forward = quick_classifier(
        Examples(images[:learned], labels[:learned]), Examples(images[learned:], labels[learned:])
    )
    images, labels = sample_digits.load("test", folder or sample_digits.SAMPLE)
    drawn = list(drawings(images, labels, DRAWINGS))
    pngs = [encoded(image) for image in images]
    before = int(right(forward, images, labels).sum())
    after = int(right(forward, np.stack([decode(png) for png in pngs]), labels).sum())
    print("drawn and learned", file=sys.stderr)
    table = report(compare(forward, drawn), (before, after, len(images)), full=folder is not None)
    speed = (microseconds(pngs[:500]), microseconds([drawing.png for drawing in drawn[:300]], rounds=2))
    table += (
        f"\nDecoding takes {speed[0]:.0f} µs of CPU time for a digit of 28 by 28 pixels, which passes by the "
        f"harmoniser, and {speed[1] / 1000:.1f} ms for one of these drawings.\n"
    )
    print(table)
    if write:
        Path(__file__).parents[1].joinpath("docs", "harmoniser.md").write_text(table)


def report(outcomes: Sequence[Outcome], clean: tuple[int, int, int], *, full: bool) -> str:
    """The shares as Markdown; `clean`: right without decoding, right after it, digits."""
    before, after, count = clean
    lines = [
        "# What the harmoniser gains",
        "",
        (
            f"`python benchmarks/harmoniser.py` on {datetime.now(UTC):%Y-%m-%d}, Python "
            f"{platform.python_version()}, seed {SEED}: {len(outcomes):,} test digits of "
            f"{'MNIST' if full else 'the sample'}, each pasted {SMALLEST} to {LARGEST} pixels long at a "
            f"random place of a picture of up to {LARGEST_CANVAS} by {LARGEST_CANVAS} pixels, encoded as PNG "
            "and classified by a LeNet-5 of three epochs. *Harmonised* is what `decode` makes of the "
            "picture, *resized* the whole picture made grey and brought to 28 by 28 pixels, its polarity "
            "judged by its border."
        ),
        "",
        "| drawings | n | harmonised | resized | points gained |",
        "|---|---|---|---|---|",
    ]
    groups = [("all", outcomes)]
    groups += [
        (f"{low} to {high} px", [each for each in outcomes if low <= each.drawing.size <= high])
        for low, high in BANDS
    ]
    groups += [(ground, [each for each in outcomes if each.drawing.ground == ground]) for ground in GROUNDS]
    for name, group in groups:
        harmonised = 100 * sum(each.harmonised for each in group) / len(group)
        plain = 100 * sum(each.plain for each in group) / len(group)
        gain = harmonised - plain
        lines.append(f"| {name} | {len(group):,} | {harmonised:.1f} % | {plain:.1f} % | {gain:+.1f} |")
    lines += [
        "",
        (
            f"The same classifier is right on {100 * before / count:.2f} % of the {count:,} clean test "
            f"digits as they are, and on {100 * after / count:.2f} % after they were encoded as PNG and "
            "decoded: "
            f"{100 * (before - after) / count:.2f} points are lost."
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
