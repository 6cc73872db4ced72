"""Evaluate: calibration on the validation fold, and the champion on the same test fold."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from mnist_ops.local import sample_digits
from mnist_ops.steps.artifacts.bundles import download_bundle
from mnist_ops.steps.artifacts.datasets import load_fold, read_dataset
from mnist_ops.steps.artifacts.objects import get_json
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.steps.evaluate import disagree, read_evaluation
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.evaluation.calibration import fit_temperature
from mnist_ops.vision.evaluation.metrics import evaluate
from mnist_ops.vision.inference.classifier import Classifier, load_classifier
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from tests.support.pipeline_in_memory import MODEL, Loader, Pipeline, Trained, label_of, png_of, url_of


@pytest.fixture(scope="module")
def rival(released: Pipeline, trained: Trained) -> tuple[Pipeline, str]:
    """A pipeline with a champion, and the evaluation of another training against it."""
    pipeline = released.copy()
    return pipeline, pipeline.evaluate(pipeline.train(trained.dataset, epochs=1, batch_size=16, seed=1))


@pytest.fixture(scope="module")
def overconfident(loader: Loader) -> Classifier:
    """The bundle of a training that overfitted its few digits."""
    pipeline = Pipeline(load=loader)
    for number in range(2_500):
        url = url_of(number)
        pipeline.images.images[url] = png_of(number, "train")
        pipeline.add(number, image_url=url, label=label_of(number, "train"))
    off = dict.fromkeys(("rotate", "shear", "zoom", "shift", "elastic", "averaging", "weight_decay"), 0)
    steady = {"schedule": "constant", "learning_rate": 0.01, "batch_size": 32, "epochs": 8}
    training = pipeline.train(pipeline.dataset(), **off, **steady)
    bundle = pipeline.release(pipeline.evaluate(training)).bundle
    with tempfile.TemporaryDirectory() as folder:
        return load_classifier(download_bundle(pipeline.objects, bundle, Path(folder)), bundle.digest)


def test_the_temperature_is_that_of_the_validation_fold(trained: Trained) -> None:
    """No test digit is used for it."""
    objects = trained.pipeline.objects
    validation = load_fold(objects, read_dataset(objects, trained.dataset), Fold.VALIDATION)
    logits = trained_logits(read_training(objects, trained.training).model, validation.images)
    fitted = read_evaluation(objects, trained.evaluation).temperature
    assert fitted == fit_temperature(logits, validation.labels)
    assert fitted != 1.0


def test_each_fold_is_measured_before_and_after_the_temperature(trained: Trained) -> None:
    """The accuracy is that of the same predictions; the likelihood on validation is better for it."""
    comparison = read_evaluation(trained.pipeline.objects, trained.evaluation)
    assert comparison.challenger.keys() == comparison.uncalibrated.keys() == {"validation", "test"}
    for fold, calibrated in comparison.challenger.items():
        assert calibrated.confusion == comparison.uncalibrated[fold].confusion
    assert comparison.challenger["validation"].nll < comparison.uncalibrated["validation"].nll


def test_a_released_model_is_better_calibrated_on_digits_that_nothing_was_fitted_on(
    overconfident: Classifier,
) -> None:
    """On all 2,000 held-out digits of the sample; its accuracy is what it was."""
    images, labels = sample_digits.load("test")
    before = evaluate(softmax(overconfident.logits(images), 1.0), labels)
    after = evaluate(overconfident.probabilities(images), labels)
    assert overconfident.card.temperature > 1
    assert after.ece < before.ece
    assert after.nll < before.nll
    assert after.confusion == before.confusion


def test_the_probabilities_in_a_record_are_the_calibrated_ones(
    pipeline: Pipeline, classifier: Classifier
) -> None:
    """Of the temperature that was fitted, not of the raw logits."""
    pipeline.add_digit("a", 3)
    pipeline.run()
    (record,) = pipeline.records.documents()
    written = list(record["prediction"]["probabilities"].values())
    images, _ = sample_digits.load("test")
    logits = classifier.logits(images[3:4])
    np.testing.assert_allclose(written, softmax(logits, classifier.card.temperature)[0], atol=1e-6)
    assert np.abs(np.array(written) - softmax(logits, 1.0)[0]).max() > 1e-3


def test_the_champion_keeps_its_own_temperature(
    rival: tuple[Pipeline, str], trained: Trained, released: Pipeline
) -> None:
    """Its metrics equal those of its own evaluation, up to the rounding of another runtime."""
    pipeline, evaluation = rival
    comparison = read_evaluation(pipeline.objects, evaluation)
    own = read_evaluation(pipeline.objects, trained.evaluation).challenger["test"]
    assert comparison.champion == released.models.champion(MODEL)
    assert comparison.champion_test is not None
    assert comparison.champion_test.confusion == own.confusion
    assert comparison.champion_test.nll == pytest.approx(own.nll, rel=1e-4)


def test_the_disagreements_explain_the_difference_in_accuracy(rival: tuple[Pipeline, str]) -> None:
    """The digits that only one got right, minus those of the other, on the same fold."""
    pipeline, evaluation = rival
    comparison = read_evaluation(pipeline.objects, evaluation)
    split, champion = comparison.disagreements, comparison.champion_test
    assert split is not None
    assert champion is not None
    difference = comparison.challenger["test"].correct - champion.correct
    assert split.challenger_only_right - split.champion_only_right == difference
    assert split.challenger_only_right + split.champion_only_right > abs(difference)


def test_disagreements_are_counted_example_by_example() -> None:
    """Both right, the challenger alone, the champion alone twice, neither."""
    labels = np.array([0, 1, 0, 1, 0])
    right, wrong = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    mine = np.stack([right, wrong, wrong, right, wrong])
    theirs = np.stack([right, right, right, wrong, wrong])
    split = disagree(mine, theirs, labels)
    assert (split.challenger_only_right, split.champion_only_right) == (1, 2)


def test_without_a_champion_there_is_nothing_to_disagree_with(trained: Trained) -> None:
    """None, rather than zeros."""
    comparison = read_evaluation(trained.pipeline.objects, trained.evaluation)
    assert (comparison.champion_test, comparison.disagreements) == (None, None)


def test_an_evaluation_is_repeated_to_the_byte(trained: Trained) -> None:
    """A retry finds what the first attempt wrote."""
    assert trained.pipeline.copy().evaluate(trained.training) == trained.evaluation


def test_the_arrays_of_the_abstention_rule_are_stored_beside_the_evaluation(trained: Trained) -> None:
    """Named by their digest, and read back as they were fitted."""
    objects = trained.pipeline.objects
    beside = str(get_json(objects, trained.evaluation)["abstention"])
    assert beside.rpartition("/")[0] == trained.evaluation.rpartition("/")[0]
    comparison = read_evaluation(objects, trained.evaluation)
    assert objects.get_bytes(beside) == comparison.abstention.to_bytes()
