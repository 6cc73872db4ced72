"""Measure accuracy and calibration of the default configuration on MNIST: `python -m benchmarks.accuracy`.

Trains the shipped configurations `default` (augmented) and `plain` (not augmented) with five seeds each,
on nine tenths of the 60,000 training digits. The last tenth, chosen by a hash of the pixels, picks the epoch
and fits the temperature; each model is evaluated once on the 10,000 test digits. Needs the folder of the full
set in MNIST_OPS_DATA_DIR. Prints a table; `--write` also writes it to docs/accuracy.md.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from mnist_ops.domain.keys import sha256_hex
from mnist_ops.local import sample_digits
from mnist_ops.vision.config.files import read_config
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.calibration import fit_temperature
from mnist_ops.vision.evaluation.metrics import Evaluation, evaluate
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.training.trainer import pick_device, train

CONFIGS = {"default": "augmented", "plain": "not augmented"}
SEEDS = 5
DOCUMENT = Path(__file__).parents[1] / "docs" / "accuracy.md"


@dataclass(frozen=True)
class Trial:
    """One training, measured on the test split.

    Attributes:
        config: the name of the shipped configuration.
        seed: the seed of the training.
        epoch: the epoch whose weights were kept, by validation.
        temperature: fitted on the validation fold.
        before: the evaluation at temperature 1.
        after: the evaluation at the fitted temperature.
        seconds: the duration of the training, on one core.
    """

    config: str
    seed: int
    epoch: int
    temperature: float
    before: Evaluation
    after: Evaluation
    seconds: float


def folds(folder: Path) -> tuple[Examples, Examples, Examples]:
    """Return the train fold (nine tenths of the split, by a hash of the pixels), validation and test."""
    images, labels = sample_digits.load("train", folder)
    held_out = np.array([int(sha256_hex(image.tobytes()), 16) % 10 == 9 for image in images])
    return (
        Examples(images[~held_out], labels[~held_out]),
        Examples(images[held_out], labels[held_out]),
        Examples(*sample_digits.load("test", folder)),
    )


def measure(folder: Path, name: str, seed: int) -> Trial:
    """Train once, choose and calibrate on the validation fold, and evaluate on the test split."""
    training, validation, test = folds(folder)
    config = read_config(Path(name)).changed([f"seed={seed}"]).config()
    start = time.perf_counter()
    model = train(training, validation, config, pick_device("cpu"))
    seconds = time.perf_counter() - start
    temperature = fit_temperature(trained_logits(model, validation.images), validation.labels)
    logits = trained_logits(model, test.images)
    before, after = (evaluate(softmax(logits, value), test.labels) for value in (1.0, temperature))
    return Trial(name, seed, model.best.epoch, temperature, before, after, seconds)


def trials(folder: Path, jobs: int) -> Iterator[Trial]:
    """Run all trials, `jobs` at a time; each on one core, so that its weights do not depend on `jobs`."""
    work = [(folder, name, seed) for name in CONFIGS for seed in range(SEEDS)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for trial in pool.map(measure, *zip(*work, strict=True)):
            print(row(trial), file=sys.stderr, flush=True)
            yield trial


def row(trial: Trial) -> str:
    """Return the row of a trial."""
    before, after = trial.before, trial.after
    return (
        f"| {trial.config} | {trial.seed} | {trial.epoch} | {after.accuracy:.2%} | {before.nll:.4f} "
        f"| {after.nll:.4f} | {before.ece:.4f} | {after.ece:.4f} | {trial.temperature:.2f} "
        f"| {trial.seconds:.0f} |"
    )


def report(done: Sequence[Trial]) -> str:
    """Return the page: every trial, and the means by configuration."""
    lines = [
        "# Accuracy and calibration on MNIST",
        "",
        (
            f"Made by `make bench-accuracy` on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, "
            f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}; each "
            "training on one core, several at a time."
        ),
        "",
        (
            "LeNet-5 on nine tenths of MNIST's 60,000 training digits. The last tenth, chosen by a hash of "
            "the pixels, picks the epoch and fits the temperature. Each model was evaluated once on the "
            "10,000 test digits. NLL in nats, ECE of 15 bins, each before and after the temperature T."
        ),
        "",
        "| configuration | seed | epoch | accuracy | NLL before | after | ECE before | after | T | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(row(trial) for trial in done),
        "",
        "| configuration | mean accuracy | lowest | highest | NLL before | after | ECE before | after |",
        "|---|---|---|---|---|---|---|---|",
        *(summary(name, [trial for trial in done if trial.config == name]) for name in CONFIGS),
    ]
    return "\n".join(lines) + "\n"


def summary(name: str, done: Sequence[Trial]) -> str:
    """Return the row of a configuration: the means over its seeds."""
    accuracies = [trial.after.accuracy for trial in done]
    before, after = ([getattr(trial, when) for trial in done] for when in ("before", "after"))
    nlls, eces = (
        [statistics.mean(getattr(measure, name) for measure in measures) for measures in (before, after)]
        for name in ("nll", "ece")
    )
    return (
        f"| {name} ({CONFIGS[name]}) | {statistics.mean(accuracies):.3%} | {min(accuracies):.2%} "
        f"| {max(accuracies):.2%} | {nlls[0]:.4f} | {nlls[1]:.4f} | {eces[0]:.4f} | {eces[1]:.4f} |"
    )


def main() -> None:
    """Train, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time")
    arguments = parser.parse_args()
    folder = os.environ.get("MNIST_OPS_DATA_DIR")
    if not folder:
        parser.error("set MNIST_OPS_DATA_DIR to a folder with MNIST's four files")
    page = report(list(trials(Path(folder), arguments.jobs)))
    print(page)
    if arguments.write:
        DOCUMENT.write_text(page)


if __name__ == "__main__":
    main()
