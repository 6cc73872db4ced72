"""Measure what harmonising drawings gains over plain resizing: `python -m benchmarks.harmoniser`.

Pastes 2,000 of MNIST's test digits at random sizes (20 to 200 pixels) and positions on eleven kinds of
background and encodes them as PNG (tests/support/digit_drawings.py). A LeNet-5, trained within a minute on
the train split, classifies each drawing as `decode` gives it, and made grey and resized to 28 by 28 as a
whole. The digits are those of the folder that MNIST_OPS_DATA_DIR names, else the project's sample. Prints a
table; with `--write` it also goes into docs/harmoniser.md.
"""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mnist_ops.local import sample_digits
from mnist_ops.settings import Settings
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.preprocessing.decode import decode
from mnist_ops.vision.training.trainer import pick_device, train
from tests.support.digit_drawings import (
    BACKGROUNDS,
    LARGEST,
    LARGEST_CANVAS,
    SEED,
    SMALLEST,
    Forward,
    Outcome,
    compare,
    correct,
    drawings,
    encoded,
)  # fmt: skip

DRAWINGS = 2_000
BANDS = ((20, 39), (40, 79), (80, 139), (140, 200))  # pixels; the longer side of a drawn digit


def quick_classifier(training: Examples, validation: Examples) -> Forward:
    """Train a LeNet-5 for three epochs, about a minute on a CPU."""
    trained = train(training, validation, TrainingConfig(epochs=3), pick_device("cpu"))
    return torch_forward(trained.config.network, trained.weights, "cpu")


def microseconds(payloads: Sequence[bytes], rounds: int = 5) -> float:
    """CPU time of decoding one payload, in microseconds: the fastest round."""
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
    before = int(correct(forward, images, labels).sum())
    after = int(correct(forward, np.stack([decode(png) for png in pngs]), labels).sum())
    print("trained and drawn", file=sys.stderr)
    table = report(compare(forward, drawn), (before, after, len(images)), full=folder is not None)
    speed = (microseconds(pngs[:500]), microseconds([drawing.png for drawing in drawn[:300]], rounds=2))
    table += (
        f"\nDecoding takes {speed[0]:.0f} µs of CPU time for a digit of 28 by 28 pixels, which is not "
        f"harmonised, and {speed[1] / 1000:.1f} ms for one of these drawings.\n"
    )
    print(table)
    if write:
        Path(__file__).parents[1].joinpath("docs", "harmoniser.md").write_text(table)


def report(outcomes: Sequence[Outcome], clean: tuple[int, int, int], *, full: bool) -> str:
    """The shares as Markdown; `clean`: correct without decoding, correct after it, number of digits."""
    before, after, count = clean
    lines = [
        "# What harmonising drawings gains",
        "",
        (
            f"`python -m benchmarks.harmoniser` on {datetime.now(UTC):%Y-%m-%d}, Python "
            f"{platform.python_version()}, seed {SEED}: {len(outcomes):,} test digits of "
            f"{'MNIST' if full else 'the sample'}, each pasted {SMALLEST} to {LARGEST} pixels long at a "
            f"random position in a picture of up to {LARGEST_CANVAS} by {LARGEST_CANVAS} pixels, encoded "
            "as PNG and classified by a LeNet-5 of three epochs. *Harmonised*: what `decode` makes of the "
            "picture. "
            "*Resized*: the whole picture, made grey and resized to 28 by 28 pixels; its border decides its "
            "polarity."
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
    groups += [
        (background, [each for each in outcomes if each.drawing.background == background])
        for background in BACKGROUNDS
    ]
    for name, group in groups:
        harmonised = 100 * sum(each.harmonised for each in group) / len(group)
        plain = 100 * sum(each.plain for each in group) / len(group)
        gain = harmonised - plain
        lines.append(f"| {name} | {len(group):,} | {harmonised:.1f} % | {plain:.1f} % | {gain:+.1f} |")
    lines += [
        "",
        (
            f"The same classifier is correct on {100 * before / count:.2f} % of the {count:,} clean test "
            f"digits as they are, and on {100 * after / count:.2f} % after they were encoded as PNG and "
            f"decoded: {100 * (before - after) / count:.2f} points are lost."
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
