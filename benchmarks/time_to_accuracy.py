"""Measure the time to 99.0 % on MNIST beside the classic script: `python -m benchmarks.time_to_accuracy`.

All train on the same 60,000 digits, from arrays in memory, on the same cores, one after the other in rounds.
The time is that of training until the test accuracy is first 99.0 %; evaluation is not counted. Ours is
LeNet-5 with the shipped configuration `fast`. The classic script runs with its usual network, and once more
with our LeNet-5. Needs the folder of the full set in MNIST_OPS_DATA_DIR. Prints a table; `--write` also
writes it to docs/time-to-accuracy.md.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import classic_script
from mnist_ops.local import sample_digits
from mnist_ops.vision.config.files import read_config
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.trainer import pick_device, train

ACCURACY = 0.99
DOCUMENT = Path(__file__).parents[1] / "docs" / "time-to-accuracy.md"

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]
# Seconds to the accuracy, CPU seconds with evaluation, and the accuracy reached.
Timed = tuple[float, float, float]


class Reached(Exception):
    """The accuracy is reached: ends the training."""


class Clock(TrainingCallback):
    """Evaluates the test split after every validation; the clock is stopped meanwhile.

    Attributes:
        seconds: of training so far, without evaluation.
        curve: seconds and accuracy at each evaluation.
    """

    def __init__(self, test: Digits) -> None:
        self.seconds = 0.0
        self.curve: list[tuple[float, float]] = []
        self._images, self._labels = torch.tensor(test[0]), torch.tensor(test[1])
        self._since = time.perf_counter()

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    @torch.inference_mode()
    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Stop the clock, evaluate, and start the clock again."""
        self.seconds += time.perf_counter() - self._since
        model.eval()
        predictions = torch.cat([model(batch).argmax(1) for batch in self._images.split(1000)])
        self.curve.append((self.seconds, float((predictions == self._labels).double().mean())))
        if self.curve[-1][1] >= ACCURACY:
            raise Reached
        self._since = time.perf_counter()


def ours(training: Digits, test: Digits, seed: int) -> tuple[float, list[tuple[float, float]]]:
    """Return the seconds to the accuracy with the configuration `fast`, and the curve."""
    changes = [f"seed={seed}", f"threads={os.cpu_count() or 1}"]
    config = read_config(Path("fast")).changed(changes).config()
    steps = -(-len(training[0]) // config.batch_size)
    config = config.model_copy(update={"validate_every": steps // classic_script.EVALUATIONS})
    clock = Clock(test)
    # One digit as validation fold: the callback evaluates, and this validation costs almost nothing.
    one = Examples(training[0][:1], training[1][:1])
    try:
        train(Examples(*training), one, config, pick_device("cpu"), clock)
    except Reached:
        return clock.seconds, clock.curve
    return float("inf"), clock.curve


def timed(training: Callable[[], tuple[float, list[tuple[float, float]]]]) -> Timed:
    """Run a training; return its times and the accuracy reached."""
    start = time.process_time()
    seconds, curve = training()
    return seconds, time.process_time() - start, curve[-1][1]


def report(rounds: list[tuple[Timed, Timed, Timed]]) -> str:
    """Return the page of rounds of ours, the classic script, and the classic script with our network."""
    lines = [
        "# Time to 99.0 % on MNIST",
        "",
        (
            f"Made by `python -m benchmarks.time_to_accuracy` on {datetime.now(UTC):%Y-%m-%d}: "
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"torch {torch.__version__}. All 60,000 training digits, from arrays in memory; seconds "
            "of training until the accuracy on the 10,000 test digits is 99.0 %, evaluated ten times per "
            "epoch; evaluation is not counted. Ours is LeNet-5 with the configuration `fast`. The classic "
            "script reads one image at a time through a DataLoader (batch 64, Adadelta, 0.7 of the learning "
            "rate after every epoch) and trains its usual network, 32 and 64 kernels with dropout. In the "
            "last column it trains our LeNet-5 instead, so that only the training code differs."
        ),
        "",
        "| round | ours | classic script | ratio | classic script, our network | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for number, (mine, usual, same) in enumerate(rounds, 1):
        lines.append(
            f"| {number} | {_cell(mine)} | {_cell(usual)} | {usual[0] / mine[0]:.1f} "
            f"| {_cell(same)} | {same[0] / mine[0]:.1f} |"
        )
    ratios = [
        statistics.median(times[column][of] / times[0][of] for times in rounds)
        for column in (1, 2)
        for of in (0, 1)
    ]
    lines += [
        "",
        (
            f"Median ratios: {ratios[0]:.1f} in time and {ratios[1]:.1f} in CPU time (evaluation included) "
            f"against the classic script, {ratios[2]:.1f} and {ratios[3]:.1f} against the same script with "
            "our network."
        ),
        "",
    ]
    return "\n".join(lines)


def _cell(timed: Timed) -> str:
    seconds, _, reached = timed
    return f"{seconds:.1f} s, {reached:.2%}"


def main() -> None:
    """Train in rounds, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/time-to-accuracy.md")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = os.environ.get("MNIST_OPS_DATA_DIR")
    if not folder:
        parser.error("set MNIST_OPS_DATA_DIR to a folder with MNIST's four files")
    training, test = (sample_digits.load(split, Path(folder)) for split in ("train", "test"))
    rounds = []
    for seed in range(arguments.rounds):
        mine = timed(lambda seed=seed: ours(training, test, seed))
        usual, same = (
            timed(
                lambda seed=seed, lenet5=lenet5: classic_script.seconds_to(
                    ACCURACY, training, test, lenet5=lenet5, seed=seed
                )
            )
            for lenet5 in (False, True)
        )
        rounds.append((mine, usual, same))
        print(f"round {seed + 1}: {', '.join(map(_cell, rounds[-1]))}", flush=True)
    page = report(rounds)
    print(page)
    if arguments.write:
        DOCUMENT.write_text(page)


if __name__ == "__main__":
    main()
