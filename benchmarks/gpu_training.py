"""Check training on a CUDA machine: `python -m benchmarks.gpu_training`.

Trains the shipped configuration `fast` on the card until 99.0 % of the test digits are right, and prints the
time to it and the throughput; then checks that the memory on the card is free again, that what was trained
in bfloat16 gives on the CPU the predictions that it gives on the card, and that running out of memory ends
in smaller batches. Exits with 1 where a check fails, and with 2 where there is no card.

The digits are those of the folder that MNIST_OPS_DATA_DIR names, else the project's sample, on which
97 % are asked for.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.time_to_accuracy import Digits
from mnist_ops.local import sample_digits
from mnist_ops.vision.config.files import load_config
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.trainer import pick_device, train

PARITY = 1e-3  # of probabilities, between the card and the CPU, both in float32
SAME_DIGITS = 0.998  # the share of test digits on which bfloat16 and float32 weights' forward passes agree


class Pace(TrainingCallback):
    """Notes when which accuracy was reached, and how fast."""

    def __init__(self, test: Digits) -> None:
        self.examples_per_s: list[float] = []
        self.curve: list[tuple[float, float]] = []
        self._seconds, self._since = 0.0, time.perf_counter()
        self._test = torch.tensor(test[0], device="cuda"), torch.tensor(test[1], device="cuda")

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Start counting."""
        self._since = time.perf_counter()

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """Note the pace."""
        self.examples_per_s.append(metrics.examples_per_s)

    @torch.inference_mode()
    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Look at the test digits, without counting the time that takes."""
        torch.cuda.synchronize()
        self._seconds += time.perf_counter() - self._since
        accuracy = float((model.eval()(self._test[0]).argmax(1) == self._test[1]).double().mean())
        self.curve.append((self._seconds, accuracy))
        self._since = time.perf_counter()

    def seconds_to(self, accuracy: float) -> float:
        """When an accuracy was first reached; infinite where it was not."""
        return next((seconds for seconds, reached in self.curve if reached >= accuracy), float("inf"))


def trained_on_the_card(training: Digits, test: Digits, config: TrainingConfig) -> tuple[TrainedModel, Pace]:
    """Train, with a tenth of the digits for validation."""
    images, labels = training
    tenth = len(images) // 10
    folds = Examples(images[tenth:], labels[tenth:]), Examples(images[:tenth], labels[:tenth])
    pace = Pace(test)
    return train(*folds, config, pick_device("cuda"), pace), pace


def parity(model: TrainedModel, images: np.ndarray) -> tuple[float, float]:
    """How far probabilities differ between card and CPU, and on which share of digits bfloat16 agrees."""
    network, weights = model.config.network, model.weights
    on_cpu, on_card = (torch_forward(network, weights, device)(images) for device in ("cpu", "cuda"))
    with torch.autocast("cuda", torch.bfloat16):
        halved = torch_forward(network, weights, "cuda")
        coarse = np.concatenate([halved(images[i : i + 1000]) for i in range(0, len(images), 1000)])
    off = float(np.abs(softmax(on_cpu, 1.0) - softmax(on_card, 1.0)).max())
    return off, float((coarse.argmax(1) == on_cpu.argmax(1)).mean())


def survives_a_full_card(training: Digits, config: TrainingConfig) -> int:
    """Take nearly all of the card's memory, train in huge batches, and return the batch that fitted."""
    images, labels = training
    examples = Examples(images[:20_000], labels[:20_000])
    sizes: list[int] = []

    class Sizes(TrainingCallback):
        def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
            def note(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
                sizes.append(len(inputs[0]))

            model.network.register_forward_pre_hook(note)

    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - (160 << 20), dtype=torch.uint8, device="cuda")
    try:
        huge = config.model_copy(update={"epochs": 1, "batch_size": 16_384})
        train(examples, Examples(images[:100], labels[:100]), huge, pick_device("cuda"), Sizes())
    finally:
        del taken
        torch.cuda.empty_cache()
    return sizes[-2]  # the last batch of an epoch is smaller


def main() -> int:
    """Run the checks and print what was seen."""
    if not torch.cuda.is_available():
        print("there is no CUDA card", file=sys.stderr)
        return 2
    named = os.environ.get("MNIST_OPS_DATA_DIR")
    folder, target = (Path(named), 0.99) if named else (sample_digits.SAMPLE, 0.97)
    training, test = (sample_digits.load(split, folder) for split in ("train", "test"))
    config = load_config(Path("fast"))
    trained_on_the_card(training, test, config.model_copy(update={"epochs": 1}))  # warms the card up
    before = torch.cuda.memory_allocated()
    model, pace = trained_on_the_card(training, test, config)
    held = torch.cuda.memory_allocated() - before - sum(t.nbytes for t in pace._test)  # noqa: SLF001
    off, same = parity(model, test[0])
    batch = survives_a_full_card(training, config)
    checks = {
        f"test accuracy {pace.curve[-1][1]:.2%}, at least {target:.0%}": pace.curve[-1][1] >= target,
        f"memory held after training: {max(held, 0)} bytes": held <= 0,
        f"probabilities on card and CPU differ by at most {off:.1e}": off <= PARITY,
        f"bfloat16 gives the CPU's digit for {same:.2%}": same >= SAME_DIGITS,
        f"on a full card, batches of 16,384 became {batch}": batch < 16_384,
    }
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {len(training[0]):,} digits")
    print(f"time to {target:.1%}: {pace.seconds_to(target):.2f} s")
    if pace.examples_per_s:
        print(f"throughput: {np.median(pace.examples_per_s):,.0f} examples/s")
    for check, good in checks.items():
        print(f"{'ok    ' if good else 'FAILED'} {check}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
