"""A small model, trained once, and its bundle, on the project's sample of MNIST."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnist_ops.local.sample_digits import load
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.metrics import evaluate
from mnist_ops.vision.inference.abstention import Abstention, fit_abstention
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.release.export import Provenance, write_bundle
from mnist_ops.vision.training.trainer import train


def _slice(split: str, start: int, stop: int) -> Examples:
    images, labels = load(split)
    return Examples(images[start:stop], labels[start:stop])


@pytest.fixture(scope="session")
def training() -> Examples:
    """2,000 digits to train on."""
    return _slice("train", 0, 2000)


@pytest.fixture(scope="session")
def validation() -> Examples:
    """300 digits to choose the best epoch."""
    return _slice("train", 9000, 9300)


@pytest.fixture(scope="session")
def held_out() -> Examples:
    """500 digits that neither the training nor the choice of the epoch uses."""
    return _slice("test", 0, 500)


@pytest.fixture(scope="session")
def trained(training: Examples, validation: Examples) -> TrainedModel:
    """A model trained for a few seconds."""
    return train(training, validation, TrainingConfig(epochs=3, batch_size=32), torch.device("cpu"))


@pytest.fixture(scope="session")
def abstention(trained: TrainedModel, training: Examples, validation: Examples) -> Abstention:
    """The detector of pictures that are not digits, for that model."""
    return fit_abstention(training, validation.images, trained_logits(trained, validation.images))


@pytest.fixture(scope="session")
def provenance(abstention: Abstention) -> Provenance:
    """Invented digests of the dataset and the training."""
    return Provenance("sha256:" + "a" * 64, "sha256:" + "b" * 64, abstention)


@pytest.fixture(scope="session")
def released(
    trained: TrainedModel,
    validation: Examples,
    provenance: Provenance,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The bundle of the session, for reading only."""
    folder = tmp_path_factory.mktemp("released") / "bundle"
    probabilities = softmax(trained_logits(trained, validation.images), 1.0)
    metrics = {"validation": evaluate(probabilities, validation.labels)}
    write_bundle(folder, trained, validation.images, metrics, provenance)
    return folder


@pytest.fixture
def bundle(released: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(released, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def digit() -> NDArray[np.uint8]:
    """A seven of the sample, uint8 (28, 28)."""
    image: NDArray[np.uint8] = load("test")[0][0]
    return image
