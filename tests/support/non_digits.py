"""Draw pictures that are not digits from a seed, and digits in the same styles for comparison.

Each picture is treated like a record's image: it is encoded as PNG, dark on light or light on dark, mostly
in another size than 28 by 28, and then decoded. Letters that look exactly like a digit (O, o, I, l, Z, S and
similar ones) stay in the set, so that the set is not selected in favour of the score.

There are two sets, `TEST` and `DEVELOPMENT`. They share no font, and only the test set has photographs and
letters drawn with a pen. The score was chosen on the development set alone. The fonts and photographs come
with matplotlib.
"""

import gzip
import io
import math
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mnist_ops.vision.preprocessing.decode import decode

Draw = Callable[[np.random.Generator], Image.Image]

SIDE = 96  # pixels; the side of a drawing before it is resized
_FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
_PHOTOGRAPHS = Path(mpl.get_data_path()) / "sample_data"

# Pen strokes as points "xy" on a grid: x 0 to 4; y from the top, 0 to 6, and 8 for descenders.
LETTERS = {
    "A": "06 20 46|14 34", "B": "00 06|00 20 41 22 03|03 33 45 36 06", "C": "41 30 10 01 05 16 36 45",
    "D": "00 06 26 44 42 20 00", "E": "40 00 06 46|03 33", "F": "40 00 06|03 33",
    "G": "41 30 10 01 05 16 36 45 43 23", "H": "00 06|40 46|03 43", "I": "10 30|20 26|16 36",
    "J": "40 45 36 16 05", "K": "00 06|40 03 46", "L": "00 06 46", "M": "06 00 23 40 46", "N": "06 00 46 40",
    "O": "20 01 05 26 45 41 20", "P": "06 00 30 41 42 33 03", "Q": "20 01 05 26 45 41 20|24 46",
    "R": "06 00 30 41 42 33 03|23 46", "S": "41 30 10 01 02 44 45 36 16 05", "T": "00 40|20 26",
    "U": "00 05 16 36 45 40", "V": "00 26 40", "W": "00 16 22 36 40", "X": "00 46|40 06",
    "Y": "00 23 40|23 26", "Z": "00 40 06 46",
    "a": "42 22 03 05 16 36 44|42 46", "b": "00 06|03 22 43 45 26 05",
    "d": "40 46|43 22 03 05 26 45", "e": "04 44 42 22 03 05 16 36 45", "f": "40 30 21 26|03 43",
    "g": "43 32 12 03 05 16 36 45|42 47 38 18 07", "h": "00 06|04 12 32 43 46", "n": "02 06|04 12 32 43 46",
    "q": "43 32 12 03 05 16 36 45|42 48", "r": "02 06|04 12 32", "t": "20 25 36 45|02 42",
}  # fmt: skip
DIGITS = {
    "0": "20 01 05 26 45 41 20", "1": "11 20 26", "2": "01 10 30 41 42 06 46",
    "3": "00 30 41 32 13|13 33 44 45 36 06", "4": "10 04 44|30 36", "5": "40 00 02 32 43 45 36 06",
    "6": "40 10 03 05 16 36 45 44 33 03", "7": "00 40 16", "8": "20 01 02 44 45 26 05 04 42 41 20",
    "9": "41 30 10 01 02 13 33 42 41 36",
}  # fmt: skip


def pictures(draw: Draw, count: int, seed: int) -> NDArray[np.uint8]:
    """Draw `count` pictures and decode them: uint8 (count, 28, 28)."""
    rng = np.random.default_rng(seed)
    return np.stack([decode(_png(draw(rng))) for _ in range(count)])


def typed(characters: str, fonts: Sequence[str]) -> Draw:
    """Draw one of the characters in one of matplotlib's fonts, slightly rotated and distorted."""

    def draw(rng: np.random.Generator) -> Image.Image:
        font = ImageFont.truetype(_FONTS / fonts[int(rng.integers(len(fonts)))], 56)
        ink = Image.new("L", (SIDE, SIDE))
        middle = (SIDE / 2, SIDE / 2)
        ImageDraw.Draw(ink).text(middle, characters[rng.integers(len(characters))], 255, font, "mm")
        return _resized(_distorted(ink, rng), rng)

    return draw


def written(alphabet: Mapping[str, str]) -> Draw:
    """Draw one of the characters with a pen: points slightly displaced, corners sharp or round."""

    def draw(rng: np.random.Generator) -> Image.Image:
        strokes = list(alphabet.values())[rng.integers(len(alphabet))].split("|")
        scale, passes = np.array([rng.uniform(8, 12), 8.5]), int(rng.integers(3))
        lines = []
        for stroke in strokes:
            points = np.array([[int(point[0]), int(point[1])] for point in stroke.split()], np.float64)
            points += rng.normal(0, 0.22, points.shape)
            lines.append(_smoothed((points - (2, 3.5)) * scale + SIDE / 2, passes))
        return _resized(_distorted(_stroked(lines, rng), rng), rng)

    return draw


def pasted(digits: NDArray[np.uint8]) -> Draw:
    """Paste one of the digits uint8 (N, 28, 28) in another size, dark on light or light on dark."""
    return lambda rng: _resized(Image.fromarray(digits[rng.integers(len(digits))]), rng)


def scribble(rng: np.random.Generator) -> Image.Image:
    """One or two curves through random points."""
    counts = rng.integers(3, 8, rng.integers(1, 3))
    lines = [_smoothed(rng.uniform(14, SIDE - 14, (count, 2)), 3) for count in counts]
    return _resized(_stroked(lines, rng), rng)


def texture(rng: np.random.Generator) -> Image.Image:
    """Stripes, checks, dots or clouds of random direction, size and contrast."""
    side = int(rng.choice([28, 64, 120]))
    down, across = np.mgrid[:side, :side] / side
    angle, waves = rng.uniform(0, math.pi), 2 * math.pi * rng.uniform(2, 10)
    u = np.sin(waves * (across * math.cos(angle) + down * math.sin(angle)) + rng.uniform(0, 6))
    v = np.sin(waves * (down * math.cos(angle) - across * math.sin(angle)) + rng.uniform(0, 6))
    coarse = Image.fromarray(rng.random((int(rng.integers(3, 12)),) * 2).astype(np.float32))
    clouds = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) * 2 - 1
    pattern = (u, np.sign(u * v), (u * v).clip(0) * 2 - 1, clouds)[rng.integers(4)]
    low = rng.uniform(0, 215)
    return _grey(low + (pattern + 1) / 2 * rng.uniform(40, 255 - low))


def blank(rng: np.random.Generator) -> Image.Image:
    """One grey level, alone, with a scanner's noise, or with light from one side."""
    side, level = int(rng.choice([28, 50, 100])), rng.uniform(0, 255)
    down, across = np.mgrid[:side, :side] / side
    shade = rng.uniform(5, 120) * (across * rng.normal() + down * rng.normal())
    return _grey(level + (0, rng.normal(0, 3, (side, side)), shade)[rng.integers(3)] + 0 * down)


def noise(rng: np.random.Generator) -> Image.Image:
    """Independent pixels: uniform, normally distributed, or black and white."""
    shape = (int(rng.choice([28, 40, 90])),) * 2
    specks = 255.0 * (rng.random(shape) < rng.uniform(0.02, 0.5))
    bell = rng.normal(128, rng.uniform(5, 60), shape)
    return _grey((rng.uniform(0, 255, shape), bell, specks)[rng.integers(3)])


def scene(rng: np.random.Generator) -> Image.Image:
    """Overlapping boxes and discs: the development set has them instead of photographs."""
    image = Image.new("L", (SIDE, SIDE), int(rng.integers(256)))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 9)):
        box = np.sort(rng.integers(-20, SIDE + 20, (2, 2)), axis=0).ravel().tolist()
        (pen.rectangle, pen.ellipse)[rng.integers(2)](box, int(rng.integers(256)))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))


def photograph(rng: np.random.Generator) -> Image.Image:
    """A random square of a portrait or of a scan of a head; half of them 28 pixels wide."""
    whole = (portrait, head_scan)[rng.integers(2)]()
    side = int(rng.integers(28, min(whole.size) // 2))
    left, top = (int(rng.integers(0, length - side + 1)) for length in whole.size)
    square = whole.crop((left, top, left + side, top + side))
    return square.resize((28, 28), Image.Resampling.BOX) if rng.random() < 0.5 else square


def portrait() -> Image.Image:
    """A photograph, 512 by 600."""
    with Image.open(_PHOTOGRAPHS / "grace_hopper.jpg") as image:
        return image.convert("L")


def head_scan() -> Image.Image:
    """A magnetic resonance image of a head, 256 by 256."""
    raw = np.frombuffer(gzip.decompress((_PHOTOGRAPHS / "s1045.ima.gz").read_bytes()), np.uint16)
    return _grey(raw.reshape(256, 256) * (255 / raw.max()))


def _resized(ink: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A drawing with ink 255 on 0, resized to 40 to 159 pixels; half of them inverted."""
    side = int(rng.integers(40, 160))
    sized = ink.resize((side, side), Image.Resampling.BICUBIC)
    return sized if rng.random() < 0.5 else sized.point(lambda level: 255 - level)


def _distorted(ink: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A drawing rotated by some degrees, with moved corners, slightly blurred."""
    angle = math.radians(rng.normal(0, 8))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * SIDE / 2 @ turn + SIDE / 2
    corners += rng.normal(0, 0.06, (4, 2)).clip(-0.15, 0.15) * SIDE
    shape = corners.ravel().tolist()
    distorted = ink.transform(ink.size, Image.Transform.QUAD, shape, Image.Resampling.BILINEAR)
    return distorted.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))


def _smoothed(points: NDArray[np.float64], passes: int) -> NDArray[np.float64]:
    """Round the corners of a line by cutting them repeatedly. Source: G. Chaikin, 1974."""
    for _ in range(passes):
        here, there = points[:-1], points[1:]
        cut = np.stack([0.75 * here + 0.25 * there, 0.25 * here + 0.75 * there], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


def _stroked(lines: Sequence[NDArray[np.float64]], rng: np.random.Generator) -> Image.Image:
    """Lines drawn with a round pen of a random width."""
    ink, width = Image.new("L", (SIDE, SIDE)), int(rng.integers(4, 10))
    pen = ImageDraw.Draw(ink)
    for line in lines:
        pen.line([tuple(point) for point in line.tolist()], 255, width, "curve")
        for x, y in line:
            pen.circle((x, y), width / 2 - 0.5, 255)
    return ink


def _grey(levels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


TEST_FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSerif-Bold.ttf",
)  # fmt: skip
DEVELOPMENT_FONTS = (
    "cmr10.ttf", "cmtt10.ttf", "cmss10.ttf", "cmb10.ttf",
    "STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf",
)  # fmt: skip

# By kind: how to draw one, and its share of all pictures in per cent.
TEST: Mapping[str, tuple[Draw, int]] = {
    "letters, typed": (typed(string.ascii_letters, TEST_FONTS), 30),
    "letters, written": (written(LETTERS), 30),
    "scribbles": (scribble, 10),
    "textures": (texture, 10),
    "photographs": (photograph, 10),
    "blank": (blank, 5),
    "noise": (noise, 5),
}
DEVELOPMENT: Mapping[str, tuple[Draw, int]] = {
    "letters, typed": (typed(string.ascii_letters, DEVELOPMENT_FONTS), 50),
    "scribbles": (scribble, 15),
    "textures": (texture, 15),
    "scenes": (scene, 10),
    "blank": (blank, 5),
    "noise": (noise, 5),
}
TEST_SEED, DEVELOPMENT_SEED = 20_261_121, 1


def draw_set(kinds: Mapping[str, tuple[Draw, int]], count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Draw about `count` pictures in all; by kind: uint8 (n, 28, 28)."""
    return {
        kind: pictures(draw, count * share // 100, seed + position)
        for position, (kind, (draw, share)) in enumerate(kinds.items())
    }
