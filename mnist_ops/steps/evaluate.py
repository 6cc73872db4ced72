"""Evaluate: a training, and the champion, on the same folds."""

import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import artifact_key
from mnist_ops.domain.ports import ModelRegistry, ObjectStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.artifacts import get_json, put_json
from mnist_ops.steps.bundles import download_bundle
from mnist_ops.steps.classify import Load
from mnist_ops.steps.datasets import load_fold
from mnist_ops.steps.train import Training, read_training
from mnist_ops.vision.evaluation import Evaluation
from mnist_ops.vision.evaluation import evaluate as measure
from mnist_ops.vision.examples import Examples
from mnist_ops.vision.folds import Fold
from mnist_ops.vision.inference import softmax
from mnist_ops.vision.torch_inference import torch_forward

_SLICE = 1_024  # digits at once, so that memory does not grow with the fold

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a challenger and the champion did on the same test fold.

    Attributes:
        training: the URI of the challenger's training.
        challenger: its measures by fold: validation and test.
        champion: the bundle in production when this was measured; None where there was none.
        champion_test: its measures on the same test fold.
    """

    training: str
    challenger: dict[str, Evaluation]
    champion: BundleRef | None
    champion_test: Evaluation | None


def evaluate(
    training_uri: str, *, objects: ObjectStore, models: ModelRegistry, model_name: str, load: Load
) -> str:
    """Measure a training on the validation and test folds, and the champion on that test fold.

    Args:
        training_uri: the training.
        objects: where everything lies.
        models: knows the champion.
        model_name: whose champion.
        load: loads a bundle from a folder, given its digest.

    Returns:
        The URI of the evaluation.

    Raises:
        Permanent: the test fold is empty, or the champion's bundle is damaged.
    """
    training = read_training(objects, training_uri)
    folds = {fold: load_fold(objects, training.dataset, fold) for fold in (Fold.VALIDATION, Fold.TEST)}
    challenger = {
        str(fold): measure(_probabilities(training, examples), examples.labels)
        for fold, examples in folds.items()
    }
    champion = models.champion(model_name)
    champion_test = _measured(objects, champion, folds[Fold.TEST], load) if champion else None
    comparison = Comparison(training_uri, challenger, champion, champion_test)
    _log.info(
        "test accuracy %.4f on %d digits, champion %s",
        challenger[Fold.TEST].accuracy,
        challenger[Fold.TEST].samples,
        f"{champion_test.accuracy:.4f}" if champion_test else "none",
    )
    return put_json(
        objects,
        lambda digest: artifact_key("trainings", training.generation, "evaluation.json", digest),
        asdict(comparison),
    )


def _probabilities(training: Training, examples: Examples) -> NDArray[np.float32]:
    forward = torch_forward(training.model.config.network, training.model.weights, "cpu")
    images = examples.images
    logits = [forward(images[start : start + _SLICE]) for start in range(0, len(images), _SLICE)]
    return softmax(np.concatenate(logits), 1.0)


def _measured(objects: ObjectStore, bundle: BundleRef, examples: Examples, load: Load) -> Evaluation:
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        classifier = load(download_bundle(objects, bundle, Path(folder)), bundle.digest)
        return measure(classifier.classify(examples.images), examples.labels)


def read_evaluation(objects: ObjectStore, uri: str) -> Comparison:
    """Read an evaluation, verified."""
    document = get_json(objects, uri)
    try:
        challenger: dict[str, dict[str, object]] = document["challenger"]  # type: ignore[assignment]
        champion: dict[str, object] | None = document["champion"]  # type: ignore[assignment]
        champion_test: dict[str, object] | None = document["champion_test"]  # type: ignore[assignment]
        return Comparison(
            training=str(document["training"]),
            challenger={fold: _evaluation(values) for fold, values in challenger.items()},
            champion=BundleRef(**champion) if champion else None,  # type: ignore[arg-type]
            champion_test=_evaluation(champion_test) if champion_test else None,
        )
    except (KeyError, TypeError) as error:
        raise Damaged(f"{uri}: not an evaluation ({error!r})") from error


def _evaluation(values: dict[str, object]) -> Evaluation:
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    tuples["confusion"] = tuple(tuple(row) for row in values["confusion"])  # type: ignore[attr-defined]
    return Evaluation(**tuples)  # type: ignore[arg-type]
