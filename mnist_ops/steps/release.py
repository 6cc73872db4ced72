"""Release: a measured training becomes a bundle in the registry, and perhaps the champion."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import bundle_prefix
from mnist_ops.domain.labels import LabelTable
from mnist_ops.domain.ports import ModelRegistry, ObjectStore, RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.bundles import upload_bundle
from mnist_ops.steps.datasets import dataset_digest, load_fold
from mnist_ops.steps.evaluate import Comparison, read_evaluation
from mnist_ops.steps.train import Training, read_training, training_digest
from mnist_ops.vision.bundle import bundle_digest
from mnist_ops.vision.export import Provenance, write_bundle
from mnist_ops.vision.folds import Fold

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a released model.

    Attributes:
        bundle: as registered.
        promoted: whether it is the champion now.
        why: the numbers that decided.
    """

    bundle: BundleRef
    promoted: bool
    why: str

    def document(self) -> dict[str, object]:
        """As JSON-able values."""
        return asdict(self)


def release(
    evaluation_uri: str,
    *,
    objects: ObjectStore,
    models: ModelRegistry,
    model_name: str,
    minimum_accuracy: float,
    now: Callable[[], datetime],
) -> Verdict:
    """Make the bundle of a measured training, register it, and promote it if it may be.

    The first model becomes champion when it reaches the minimum accuracy; a later one when it is
    at least as accurate as the champion on the same test fold. Repeating a release changes nothing.

    Args:
        evaluation_uri: the evaluation.
        objects: where everything lies.
        models: the registry.
        model_name: what to release it as.
        minimum_accuracy: what the first champion must reach on its test fold, 0 to 1.
        now: the wall clock (UTC).

    Raises:
        Permanent: the champion has changed since the evaluation: evaluate again.
    """
    comparison = read_evaluation(objects, evaluation_uri)
    training = read_training(objects, comparison.training)
    version = models.reserve(model_name, training.uri)
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        digest = _write(Path(folder), training, comparison, objects)
        uri = upload_bundle(objects, Path(folder), bundle_prefix(model_name, version, digest))
    test = comparison.challenger[Fold.TEST]
    metrics = {"test_accuracy": test.accuracy, "test_nll": test.nll, "test_samples": float(test.samples)}
    bundle = BundleRef(model_name, version, uri, digest)
    registered = models.register(RegisteredModel(bundle, training.uri, metrics, now())).bundle
    good, why = _good_enough(comparison, minimum_accuracy)
    if good and not models.promote(registered, comparison.champion, now()):
        raise Permanent(
            f"{model_name}: the champion has changed since {evaluation_uri} was measured; clear `evaluate`, "
            "so that the two are compared anew"
        )
    _log.info("%s %d: %s", model_name, version, why)
    return Verdict(registered, good, why)


def _write(folder: Path, training: Training, comparison: Comparison, objects: ObjectStore) -> str:
    validation = load_fold(objects, training.dataset, Fold.VALIDATION)
    provenance = Provenance(
        dataset_digest=dataset_digest(training.dataset_uri),
        training_digest=training_digest(training.uri),
        labels=LabelTable(training.dataset.labels),
    )
    write_bundle(folder, training.model, validation.images, comparison.challenger, provenance)
    return bundle_digest(folder)


def _good_enough(comparison: Comparison, minimum_accuracy: float) -> tuple[bool, str]:
    test = comparison.challenger[Fold.TEST]
    mine = f"{test.accuracy:.4f} on the {test.samples} digits of the test fold"
    if comparison.champion is None or comparison.champion_test is None:
        good = test.accuracy >= minimum_accuracy
        verdict = "promoted as the first champion" if good else "not promoted"
        return good, f"{verdict}: accuracy {mine}, the first champion needs {minimum_accuracy}"
    theirs = comparison.champion_test.accuracy
    good = test.accuracy >= theirs
    verdict = "promoted" if good else "not promoted"
    return good, f"{verdict}: accuracy {mine}, champion {comparison.champion.version} has {theirs:.4f}"
