"""Evaluate: a calibrated training and the champion are measured on the same folds."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import InstanceOf, TypeAdapter, ValidationError

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.gate import Disagreements
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import ModelRegistry, ObjectStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.bundles import Load, load_bundle
from mnist_ops.steps.artifacts.datasets import load_fold
from mnist_ops.steps.artifacts.objects import get_json, get_verified, put_artifact, put_json
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.validation import problems_of
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.evaluation.calibration import fit_temperature
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.evaluation.metrics import evaluate as measure
from mnist_ops.vision.inference.abstention import Abstention, fit_abstention
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of a challenger and of the champion on the same test fold.

    Attributes:
        training: the URI of the challenger's training.
        temperature: the challenger's, fitted on the validation fold.
        challenger: its calibrated metrics by fold, validation and test.
        uncalibrated: the same at temperature 1.
        champion: the bundle in production at the time; None if there was none.
        champion_test: its metrics on the same test fold, with its own temperature.
        disagreements: the test digits that only one of the two got right.
        abstention: the challenger's rule for images that are not digits, fitted on the validation fold.
    """

    training: str
    temperature: float
    challenger: dict[str, Evaluation]
    uncalibrated: dict[str, Evaluation]
    champion: BundleRef | None
    champion_test: Evaluation | None
    disagreements: Disagreements | None
    abstention: InstanceOf[Abstention] = field(compare=False)


_COMPARISON = TypeAdapter(Comparison)


def evaluate(
    training_uri: str, *, objects: ObjectStore, models: ModelRegistry, model_name: str, load: Load
) -> str:
    """Calibrate a training on the validation fold, and measure it and the champion on the test fold.

    Nothing is fitted on the test fold: the temperature and the abstention rule come from the validation fold.

    Args:
        training_uri: the training.
        objects: the store of trainings, data sets and bundles.
        models: the registry, which knows the champion.
        model_name: the model's name.
        load: loads a bundle from a folder, given its digest.

    Returns:
        The URI of the evaluation.

    Raises:
        Permanent: a fold is empty, or the champion's bundle is damaged.
    """
    watch = Stopwatch("evaluate", objects.requests, objects.moved)
    with watch.reading():
        training = read_training(objects, training_uri)
        train, validation, test = (load_fold(objects, training.dataset, fold) for fold in Fold)
    logits = {
        str(fold): trained_logits(training.model, examples.images)
        for fold, examples in ((Fold.VALIDATION, validation), (Fold.TEST, test))
    }
    labels = {str(Fold.VALIDATION): validation.labels, str(Fold.TEST): test.labels}
    temperature = fit_temperature(logits[Fold.VALIDATION], validation.labels)
    champion, champion_test, disagreements = models.champion(model_name), None, None
    if champion is not None:
        with watch.reading():
            classifier = load_bundle(objects, champion, load)
        theirs = classifier.probabilities(test.images)
        champion_test = measure(theirs, test.labels)
        disagreements = disagree(softmax(logits[Fold.TEST], temperature), theirs, test.labels)
    comparison = Comparison(
        training=training_uri,
        temperature=temperature,
        challenger=_measured(logits, labels, temperature),
        uncalibrated=_measured(logits, labels, 1.0),
        champion=champion,
        champion_test=champion_test,
        disagreements=disagreements,
        abstention=fit_abstention(train, validation.images, logits[Fold.VALIDATION]),
    )
    watch.report(len(validation) + len(test))
    _log_outcome(comparison)
    return _put(objects, training.generation, comparison)


def _measured(
    logits: Mapping[str, NDArray[np.float32]], labels: Mapping[str, NDArray[np.uint8]], temperature: float
) -> dict[str, Evaluation]:
    return {fold: measure(softmax(logits[fold], temperature), labels[fold]) for fold in logits}


def disagree(
    challenger: NDArray[np.floating], champion: NDArray[np.floating], labels: NDArray[np.integer]
) -> Disagreements:
    """Count the examples that only one of two classifiers got right.

    Args:
        challenger: its probabilities (N, classes).
        champion: its probabilities (N, classes).
        labels: the class indices (N,).
    """
    mine, theirs = challenger.argmax(axis=1) == labels, champion.argmax(axis=1) == labels
    return Disagreements(
        challenger_only_right=int((mine & ~theirs).sum()), champion_only_right=int((theirs & ~mine).sum())
    )


def _log_outcome(comparison: Comparison) -> None:
    test, plain = comparison.challenger[Fold.TEST], comparison.uncalibrated[Fold.TEST]
    _log.info("test accuracy %.4f on %d digits, %s", test.accuracy, test.samples, _of_champion(comparison))
    _log.info("ECE %.4f, %.4f before temperature %.4f", test.ece, plain.ece, comparison.temperature)


def _of_champion(comparison: Comparison) -> str:
    if comparison.champion is None or comparison.champion_test is None:
        return "no champion"
    accuracy = comparison.champion_test.accuracy
    return f"champion {comparison.champion.name} {comparison.champion.version}: {accuracy:.4f}"


def _put(objects: ObjectStore, generation: Generation, comparison: Comparison) -> str:
    """Write a comparison; the arrays of its abstention rule are an object of their own, written first."""
    arrays = comparison.abstention.to_bytes()
    document = _COMPARISON.dump_python(comparison, mode="json", exclude={"abstention"})
    document["abstention"] = put_artifact(objects, "trainings", generation, "abstention.npz", arrays)
    return put_json(objects, "trainings", generation, "evaluation.json", document)


def read_evaluation(objects: ObjectStore, uri: str) -> Comparison:
    """Read an evaluation, verified.

    Raises:
        Damaged: it is not an evaluation.
    """
    document = get_json(objects, uri)
    try:
        abstention = Abstention.from_bytes(get_verified(objects, str(document["abstention"])))
        return _COMPARISON.validate_python(document | {"abstention": abstention})
    except KeyError as error:
        raise Damaged(f"{uri}: not an evaluation (no {error})") from error
    except ValidationError as error:
        raise Damaged(f"{uri}: not an evaluation ({problems_of(error)[0]})") from error
