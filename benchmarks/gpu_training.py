"""Check training on a CUDA machine: `python -m benchmarks.gpu_training`.

Trains the shipped configuration `fast` on the GPU and prints the time to 99.0 % test accuracy and the
throughput. Then checks that the GPU's memory is free again, that the weights trained in bfloat16 give the
same predictions on CPU and on the GPU, and that a full GPU leads to smaller batches. Exits with 1 if a check
fails, and with 2 without a GPU.

The digits come from the folder MNIST_OPS_DATA_DIR; without it, from the project's sample, where 97 % are
required.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.time_to_accuracy import Digits
from mnist_ops.local import sample_digits
from mnist_ops.vision.config.files import read_config
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.trainer import pick_device, train

PARITY = 1e-3  # largest difference of probabilities between GPU and CPU, both in float32
SAME_DIGITS = 0.998  # share of test digits with the same prediction in bfloat16 and in float32


class Measurements(TrainingCallback):
    """Records throughput, and the accuracy by time."""

    def __init__(self, test: Digits) -> None:
        self.examples_per_s: list[float] = []
        self.curve: list[tuple[float, float]] = []
        self._seconds, self._since = 0.0, time.perf_counter()
        self._test = torch.tensor(test[0], device="cuda"), torch.tensor(test[1], device="cuda")

    def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_steps(self, step: int, metrics: StepMetrics) -> None:
        """Record the throughput."""
        self.examples_per_s.append(metrics.examples_per_s)

    @torch.inference_mode()
    def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
        """Stop the clock, evaluate the test digits, and start the clock again."""
        torch.cuda.synchronize()
        self._seconds += time.perf_counter() - self._since
        accuracy = float((model.eval()(self._test[0]).argmax(1) == self._test[1]).double().mean())
        self.curve.append((self._seconds, accuracy))
        self._since = time.perf_counter()

    def seconds_to(self, accuracy: float) -> float:
        """Return the time at which an accuracy was first reached; infinite if it was not."""
        return next((seconds for seconds, reached in self.curve if reached >= accuracy), float("inf"))


def trained_on_gpu(
    training: Digits, test: Digits, config: TrainingConfig
) -> tuple[TrainedModel, Measurements]:
    """Train, with a tenth of the digits for validation."""
    images, labels = training
    tenth = len(images) // 10
    folds = Examples(images[tenth:], labels[tenth:]), Examples(images[:tenth], labels[:tenth])
    measurements = Measurements(test)
    return train(*folds, config, pick_device("cuda"), measurements), measurements


def parity(model: TrainedModel, images: np.ndarray) -> tuple[float, float]:
    """Return the largest difference of probabilities between GPU and CPU, and the agreement of bfloat16."""
    network, weights = model.config.network, model.weights
    on_cpu, on_gpu = (torch_forward(network, weights, device)(images) for device in ("cpu", "cuda"))
    with torch.autocast("cuda", torch.bfloat16):
        forward = torch_forward(network, weights, "cuda")
        bfloat16 = np.concatenate([forward(images[i : i + 1000]) for i in range(0, len(images), 1000)])
    difference = float(np.abs(softmax(on_cpu, 1.0) - softmax(on_gpu, 1.0)).max())
    return difference, float((bfloat16.argmax(1) == on_cpu.argmax(1)).mean())


def batch_size_on_full_gpu(training: Digits, config: TrainingConfig) -> int:
    """Fill the GPU's memory except 160 MiB, train with huge batches, and return the batch size that fits."""
    images, labels = training
    examples = Examples(images[:20_000], labels[:20_000])
    sizes: list[int] = []

    class Sizes(TrainingCallback):
        def on_start(self, model: DigitClassifier, training: Examples, validation: Examples) -> None:
            def record(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
                sizes.append(len(inputs[0]))

            model.network.register_forward_pre_hook(record)

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
    """Run the checks and print the results."""
    if not torch.cuda.is_available():
        print("there is no CUDA device", file=sys.stderr)
        return 2
    named = os.environ.get("MNIST_OPS_DATA_DIR")
    folder, target = (Path(named), 0.99) if named else (sample_digits.SAMPLE, 0.97)
    training, test = (sample_digits.load(split, folder) for split in ("train", "test"))
    config = read_config(Path("fast")).config()
    trained_on_gpu(training, test, config.model_copy(update={"epochs": 1}))  # warm-up
    before = torch.cuda.memory_allocated()
    model, measurements = trained_on_gpu(training, test, config)
    held = torch.cuda.memory_allocated() - before - sum(t.nbytes for t in measurements._test)  # noqa: SLF001
    accuracy = measurements.curve[-1][1]
    difference, same = parity(model, test[0])
    batch = batch_size_on_full_gpu(training, config)
    checks = {
        f"test accuracy {accuracy:.2%}, at least {target:.0%}": accuracy >= target,
        f"memory held after training: {max(held, 0)} bytes": held <= 0,
        f"probabilities on GPU and CPU differ by at most {difference:.1e}": difference <= PARITY,
        f"bfloat16 gives the CPU's prediction for {same:.2%}": same >= SAME_DIGITS,
        f"on a full GPU, batches of 16,384 became {batch}": batch < 16_384,
    }
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {len(training[0]):,} digits")
    print(f"time to {target:.1%}: {measurements.seconds_to(target):.2f} s")
    if measurements.examples_per_s:
        print(f"throughput: {np.median(measurements.examples_per_s):,.0f} examples/s")
    for check, good in checks.items():
        print(f"{'ok    ' if good else 'FAILED'} {check}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
