"""Measure how many pictures that are no digits are flagged: `python -m benchmarks.abstention`.

Trains the default network, fits the abstention on the training and validation folds alone, and only then
draws 2,000 pictures that are no digits (see non_digits.py). Prints the share flagged of each kind with a
Wilson interval, the share of digits flagged, and what the score costs; with `--write` the table also goes
into docs/abstention.md. The digits are those of the folder that MNIST_OPS_DATA_DIR names, else the project's
sample. With `--development` the pictures are those that the score was chosen by, and nothing is written.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import non_digits
from mnist_ops.domain.statistics import wilson_interval
from mnist_ops.local import sample_digits
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.abstention import KEPT, Abstention, fit_abstention
from mnist_ops.vision.inference.classifier import onnx_forward, softmax
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.models.weights import network_from
from mnist_ops.vision.preprocessing.decode import decode
from mnist_ops.vision.release.export import export_onnx
from mnist_ops.vision.training.trainer import pick_device, train

PICTURES, STEPS = 2_000, 3_000
BATCH, ROUNDS = 512, 20


@dataclass(frozen=True)
class Detector:
    """A network with the abstention that was fitted for it."""

    model: TrainedModel
    abstention: Abstention

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How unlike a digit each of the pictures uint8 (N, 28, 28) is."""
        return self.abstention.scores(images, trained_logits(self.model, images))

    def flagged(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of them are taken for no digits."""
        return self.scores(images) > self.abstention.threshold


def default_config(digits: int) -> TrainingConfig:
    """The default training, for about 3,000 steps on nine tenths of so many digits."""
    config = TrainingConfig()
    epochs = max(1, round(STEPS * config.batch_size / (digits * 9 // 10)))
    return config.model_copy(update={"epochs": epochs})


def make_detector(digits: Examples, config: TrainingConfig) -> Detector:
    """Train on nine tenths of the digits; the last tenth chooses the epoch and sets the threshold."""
    split = len(digits) * 9 // 10
    training = Examples(digits.images[:split], digits.labels[:split])
    validation = Examples(digits.images[split:], digits.labels[split:])
    model = train(training, validation, config, pick_device("cpu"))
    logits = trained_logits(model, validation.images)
    return Detector(model, fit_abstention(training, validation.images, logits))


def rows_of(detector: Detector, kinds: Mapping[str, NDArray[np.uint8]]) -> list[str]:
    """A line of the table for each kind of picture, and one for all of them."""
    flags = {kind: detector.flagged(images) for kind, images in kinds.items()}
    return [_row(kind, flag) for kind, flag in flags.items()] + [
        _row("**all**", np.concatenate(list(flags.values())))
    ]


def _row(kind: str, flags: NDArray[np.bool_]) -> str:
    low, high = wilson_interval(int(flags.sum()), len(flags))
    return f"| {kind} | {len(flags):,} | {flags.mean():.1%} | {low:.1%} to {high:.1%} |"


def controls(detector: Detector, test: NDArray[np.uint8]) -> list[str]:
    """The same for pictures of digits, of which few should be flagged."""
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
    """Microseconds a picture, on one thread, of what the classify step does with it."""
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
    """Seconds of the quickest round: whatever else the machine does only adds to it."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def report(detector: Detector, data: str, folds: tuple[int, int], test: NDArray[np.uint8]) -> str:
    """The tables as Markdown."""
    header = ["| picture | how many | flagged | 95 % interval |", "|---|---|---|---|"]
    kinds = non_digits.draw_set(non_digits.TEST, PICTURES, non_digits.TEST_SEED)
    cost = costs(detector, test)
    scores = detector.scores(test)
    exact = float(np.quantile(scores, KEPT, method="inverted_cdf"))
    at_exact = np.concatenate([detector.scores(images) > exact for images in kinds.values()]).mean()
    lines = [
        "# Pictures that are no digits",
        "",
        (
            f"`python -m benchmarks.abstention` on {datetime.now(UTC):%Y-%m-%d}: {data}, {folds[0]:,} digits "
            f"to train on and {folds[1]:,} to validate; the default training, {STEPS:,} steps; "
            f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. The threshold is "
            "where 95 % of the validation fold's digits are kept. The pictures below were drawn after it was "
            "fixed and had no part in it; the score was chosen by other pictures, of other fonts."
        ),
        "",
        *header,
        *rows_of(detector, kinds),
        "",
        (
            "Letters that look exactly like a digit (O, o, I, l, Z, S, q and such) are in it and count as "
            "missed. The photographs are squares out of two pictures, a portrait and a scan of a head. What "
            "the score must not flag:"
        ),
        "",
        *header,
        *controls(detector, test),
        "",
        (
            "Typed digits are flagged more often than written ones: MNIST has none, and the network is less "
            "sure of them. They are predicted all the same; `not_a_digit` asks for a look."
        ),
        "",
        (
            f"At the threshold that would keep exactly 95 % of the test digits, {at_exact:.1%} of the "
            f"pictures were flagged. On one thread the score costs {cost['score']:.1f} µs a picture, beside "
            f"{cost['decoding']:.0f} µs of decoding and {cost['network']:.0f} µs of the network: "
            f"{cost['score'] / (cost['decoding'] + cost['network']):.0%} more."
        ),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, fit, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/abstention.md")
    parser.add_argument("--development", action="store_true", help="the pictures the score was chosen by")
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
