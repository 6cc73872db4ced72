"""Measure how many pictures that are not digits are flagged: `python -m benchmarks.abstention`.

Trains the default network, fits the abstention on the training and validation folds alone, and only then
draws 2,000 pictures that are not digits (tests/support/non_digits.py). Prints the share flagged of each kind
with a Wilson interval, the share of digits flagged, and what the score costs; with `--write` the table also
goes into docs/abstention.md. The digits are those of the folder that MNIST_OPS_DATA_DIR names, else the
project's sample. With `--development` the pictures are those that the score was chosen on, and nothing is
written.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.statistics import wilson_interval
from mnist_ops.local import sample_digits
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.abstention import KEPT
from mnist_ops.vision.inference.onnx_backend import onnx_forward
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.weights import network_from
from mnist_ops.vision.preprocessing.decode import decode
from mnist_ops.vision.release.export import export_onnx
from tests.support import non_digits
from tests.support.detector import Detector, make_detector

PICTURES, STEPS = 2_000, 3_000
BATCH, ROUNDS = 512, 20


def default_config(digits: int) -> TrainingConfig:
    """The default training, with as many epochs as 3,000 steps on nine tenths of the digits take."""
    config = TrainingConfig()
    epochs = max(1, round(STEPS * config.batch_size / (digits * 9 // 10)))
    return config.model_copy(update={"epochs": epochs})


def rows_of(detector: Detector, kinds: Mapping[str, NDArray[np.uint8]]) -> list[str]:
    """A row of the table for each kind of picture, and one for all of them."""
    flags = {kind: detector.flagged(images) for kind, images in kinds.items()}
    return [_row(kind, flag) for kind, flag in flags.items()] + [
        _row("**all**", np.concatenate(list(flags.values())))
    ]


def _row(kind: str, flags: NDArray[np.bool_]) -> str:
    low, high = wilson_interval(int(flags.sum()), len(flags))
    return f"| {kind} | {len(flags):,} | {flags.mean():.1%} | {low:.1%} to {high:.1%} |"


def controls(detector: Detector, test: NDArray[np.uint8]) -> list[str]:
    """The rows of the table for pictures of digits, of which few should be flagged."""
    drawn = {
        "MNIST's test digits, as they are": test,
        "the same, pasted: other sizes, half dark on light": non_digits.pictures(
            non_digits.pasted(test), len(test), non_digits.TEST_SEED + 100
        ),
        "digits written with the same pen as the letters": non_digits.pictures(
            non_digits.written(non_digits.DIGITS), 1_000, non_digits.TEST_SEED + 101
        ),
        "digits typed in the same fonts as the letters": non_digits.pictures(
            non_digits.typed("0123456789", non_digits.TEST_FONTS), 1_000, non_digits.TEST_SEED + 102
        ),
    }
    return [_row(kind, detector.flagged(images)) for kind, images in drawn.items()]


def costs(detector: Detector, images: NDArray[np.uint8]) -> dict[str, float]:
    """Microseconds per picture, on one thread, of each thing that the classify step does with it."""
    config = detector.model.config
    network = network_from(config.network, detector.model.weights, config.kernel_sizes)
    forward = onnx_forward(export_onnx(DigitClassifier(network).eval()))
    batch = images[:BATCH]
    payloads, logits = [sample_digits.png(image) for image in batch], forward(batch)
    work: dict[str, Callable[[], object]] = {
        "decoding": lambda: [decode(payload) for payload in payloads],
        "network": lambda: softmax(forward(batch), 1.0),
        "score": lambda: detector.abstention.scores(batch, logits),
    }
    return {name: _best_of_rounds(action) / len(batch) * 1e6 for name, action in work.items()}


def _best_of_rounds(action: Callable[[], object]) -> float:
    """Seconds of the fastest round: other work of the machine can only add time."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def report(detector: Detector, data: str, folds: tuple[int, int], test: NDArray[np.uint8]) -> str:
    """The tables as Markdown."""
    header = ["| picture | count | flagged | 95 % interval |", "|---|---|---|---|"]
    kinds = non_digits.draw_set(non_digits.TEST, PICTURES, non_digits.TEST_SEED)
    cost = costs(detector, test)
    scores = detector.scores(test)
    exact = float(np.quantile(scores, KEPT, method="inverted_cdf"))
    at_exact = np.concatenate([detector.scores(images) > exact for images in kinds.values()]).mean()
    lines = [
        "# Pictures that are not digits",
        "",
        (
            f"`python -m benchmarks.abstention` on {datetime.now(UTC):%Y-%m-%d}: {data}, {folds[0]:,} digits "
            f"to train on and {folds[1]:,} to validate; the default training, {STEPS:,} steps; "
            f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. The threshold is "
            "set so that 95 % of the validation fold's digits are kept. The pictures below were drawn after "
            "that and did not influence it; the score was chosen on other pictures, of other fonts."
        ),
        "",
        *header,
        *rows_of(detector, kinds),
        "",
        (
            "Letters that look exactly like a digit (O, o, I, l, Z, S, q and similar ones) are included and "
            "count as missed. The photographs are squares of two pictures, a portrait and a scan of a head. "
            "Pictures that the score must not flag:"
        ),
        "",
        *header,
        *controls(detector, test),
        "",
        (
            "Typed digits are flagged more often than written ones: MNIST has none, and the network is less "
            "sure of them. They get a prediction nevertheless; `not_a_digit` asks a person to check them."
        ),
        "",
        (
            f"At the threshold that would keep exactly 95 % of the test digits, {at_exact:.1%} of the "
            f"pictures were flagged. On one thread the score costs {cost['score']:.1f} µs per picture, "
            f"decoding {cost['decoding']:.0f} µs and the network {cost['network']:.0f} µs: the score adds "
            f"{cost['score'] / (cost['decoding'] + cost['network']):.0%}."
        ),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, fit, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/abstention.md")
    parser.add_argument("--development", action="store_true", help="the pictures the score was chosen on")
    options = parser.parse_args()
    folder = os.environ.get("MNIST_OPS_DATA_DIR")
    source = Path(folder) if folder else sample_digits.SAMPLE
    digits, (test, _) = Examples(*sample_digits.load("train", source)), sample_digits.load("test", source)
    detector = make_detector(digits, default_config(len(digits)))
    if options.development:
        kinds = non_digits.draw_set(non_digits.DEVELOPMENT, PICTURES, non_digits.DEVELOPMENT_SEED)
        print("\n".join(rows_of(detector, kinds)))
        return
    split = len(digits) * 9 // 10
    data = "MNIST" if folder else "the project's sample of MNIST"
    table = report(detector, data, (split, len(digits) - split), test)
    print(table)
    if options.write:
        Path(__file__).parents[1].joinpath("docs", "abstention.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
