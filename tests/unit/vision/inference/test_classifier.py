"""Classifying with a bundle: calibrated probabilities, and no torch on CPU."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.bundle import bundle_digest
from mnist_ops.vision.inference.classifier import Classifier, load_classifier
from mnist_ops.vision.inference.softmax import softmax


@pytest.fixture(scope="module")
def classifier(released: Path) -> Classifier:
    """The released bundle on CPU."""
    return load_classifier(released, bundle_digest(released))


def test_digits_get_their_labels(classifier: Classifier, held_out: Examples) -> None:
    """The argmax through the bundle's own table."""
    probabilities = classifier.probabilities(held_out.images)
    assert (probabilities.argmax(axis=1) == held_out.labels).mean() > 0.9
    assert classifier.labels[int(probabilities[0].argmax())] == "seven"


def test_probabilities_are_finite_and_sum_to_one(classifier: Classifier) -> None:
    """For any pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 28, 28), np.uint8)
    probabilities = classifier.probabilities(noise)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (700, 10)
    assert np.isfinite(probabilities).all()
    assert np.abs(probabilities.astype(np.float64).sum(axis=1) - 1).max() <= 1e-6


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513])
def test_slicing_does_not_change_the_probabilities(
    classifier: Classifier, training: Examples, count: int
) -> None:
    """Any number of digits gives that number of rows, the same as one by one."""
    probabilities = classifier.probabilities(training.images[:count])
    assert probabilities.shape == (count, 10)
    for index in {0, count - 1} if count else ():
        alone = classifier.probabilities(training.images[index : index + 1])
        np.testing.assert_allclose(probabilities[index], alone[0], atol=1e-6)


def test_images_that_are_not_contiguous_are_accepted(classifier: Classifier, training: Examples) -> None:
    """Such as every second image of an array."""
    np.testing.assert_allclose(
        classifier.probabilities(training.images[:20:2]),
        classifier.probabilities(training.images[:20])[::2],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 28, 28), np.float32), np.zeros((28, 28), np.uint8), np.zeros((1, 32, 32), np.uint8)],
)
def test_other_arrays_are_refused(classifier: Classifier, images: NDArray[np.uint8]) -> None:
    """They would be classified wrongly."""
    with pytest.raises(Permanent, match="images must be"):
        classifier.probabilities(images)


def test_predictions_hold_probabilities_scores_and_flags(classifier: Classifier, held_out: Examples) -> None:
    """The same probabilities, the scores of the abstention, and which scores are above its threshold."""
    predictions = classifier.predict(held_out.images)
    np.testing.assert_array_equal(predictions.probabilities, classifier.probabilities(held_out.images))
    scores = classifier.abstention.scores(held_out.images, classifier.logits(held_out.images))
    np.testing.assert_array_equal(predictions.scores, scores)
    np.testing.assert_array_equal(predictions.not_a_digit, scores > classifier.card.abstention.threshold)
    assert predictions.not_a_digit.mean() < 0.15


def test_an_empty_picture_and_noise_are_not_digits(classifier: Classifier) -> None:
    """Whatever class the network chooses."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    assert classifier.predict(np.concatenate([np.zeros((1, 28, 28), np.uint8), noise])).not_a_digit.all()


def test_no_pictures_give_empty_predictions(classifier: Classifier) -> None:
    """That is not an error."""
    predictions = classifier.predict(np.empty((0, 28, 28), np.uint8))
    assert (predictions.probabilities.shape, predictions.scores.shape) == ((0, 10), (0,))


def test_a_temperature_softens_the_softmax() -> None:
    """Large logits give finite probabilities, and their order is kept."""
    logits = np.array([[1000.0, 990.0, -1000.0]], np.float32)
    cold, warm = softmax(logits, 1.0), softmax(logits, 10.0)
    assert warm[0, 0] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)
    assert cold[0, 0] > warm[0, 0] > warm[0, 1] > warm[0, 2]


def test_an_unknown_device_is_refused(released: Path) -> None:
    """There is no silent fallback to another device."""
    with pytest.raises(Permanent, match="tpu"):
        load_classifier(released, device="tpu")


def test_cuda_is_used_or_refused_and_never_replaced(released: Path) -> None:
    """Without a GPU, the error says so."""
    present = any(Path("/dev").glob("nvidia[0-9]*"))
    with nullcontext() if present else pytest.raises(Permanent, match="this machine has none"):
        assert load_classifier(released, device="cuda").device == "cuda"


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_on_cpu_nothing_imports_torch(released: Path, device: str) -> None:
    """A fresh process decodes, verifies, loads and classifies without it."""
    if device == "auto" and any(Path("/dev").glob("nvidia[0-9]*")):
        device = "cpu"
    script = f"""
import sys
from pathlib import Path
from mnist_ops.local.sample_digits import load, png
from mnist_ops.vision.config import schema
from mnist_ops.vision.data import folds
from mnist_ops.vision.evaluation import metrics
from mnist_ops.vision.inference.classifier import load_classifier
from mnist_ops.vision.preprocessing.decode import decode
digit = decode(png(load("test")[0][0]))
classifier = load_classifier(Path({str(released)!r}), device={device!r})
print(classifier.labels[classifier.probabilities(digit[None])[0].argmax()])
print([name for name in ("torch", "torchvision", "onnx", "onnxscript") if name in sys.modules])
"""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["seven", "[]"]
    assert not done.stderr


def test_a_bundle_needs_no_training_code(released: Path) -> None:
    """A process that cannot import torch, models, training and release loads it and classifies."""
    script = f"""
import sys
vision = ("config", "models", "training", "release")
blocked = ("torch", "torchvision", "onnx", "onnxscript", *(f"mnist_ops.vision.{{name}}" for name in vision))
sys.modules.update(dict.fromkeys(blocked))
from pathlib import Path
from mnist_ops.local.sample_digits import load, png
from mnist_ops.vision.preprocessing.decode import decode
from mnist_ops.vision.inference.classifier import load_classifier
classifier = load_classifier(Path({str(released)!r}))
predictions = classifier.predict(decode(png(load("test")[0][0]))[None])
print(classifier.labels[predictions.probabilities[0].argmax()], predictions.not_a_digit[0])
"""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["seven", "False"]
    assert not done.stderr
