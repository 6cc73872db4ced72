"""Train, evaluate, release: from a data set to a registered bundle."""

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import pytest

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.gate import Decision, Gate
from mnist_ops.domain.keys import Generation, digest_in_name
from mnist_ops.steps.artifacts.bundles import download_bundle
from mnist_ops.steps.artifacts.datasets import load_fold, read_dataset
from mnist_ops.steps.artifacts.objects import get_json, put_json
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.steps.evaluate import read_evaluation
from mnist_ops.steps.promote import GateResult
from mnist_ops.steps.train import train
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.inference.bundle import load_card
from mnist_ops.vision.inference.classifier import Classifier
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics
from mnist_ops.vision.training.callbacks import TrainingCallback
from tests.support.miscalibrated import miscalibrated
from tests.support.pipeline_in_memory import AT, MODEL, Pipeline, Trained


@pytest.fixture(scope="module")
def worse(released: Pipeline, trained: Trained) -> tuple[Pipeline, str]:
    """A pipeline with a champion, and a training that learned nearly nothing."""
    pipeline = released.copy()
    return pipeline, pipeline.train(trained.dataset, epochs=1, batch_size=640, learning_rate=1e-6)


@pytest.fixture(scope="module")
def refused(worse: tuple[Pipeline, str]) -> tuple[Pipeline, str, GateResult]:
    """That training, evaluated against the champion and released."""
    pipeline, training = worse
    after = pipeline.copy()
    evaluation = after.evaluate(training)
    return after, evaluation, after.release(evaluation)


# --- train


def test_a_training_names_its_data_its_config_and_its_history(trained: Trained) -> None:
    """So that it can be repeated."""
    training = read_training(trained.pipeline.objects, trained.training)
    assert training.dataset_uri == trained.dataset
    assert (training.model.config.epochs, training.model.config.batch_size) == (2, 32)
    assert [metrics.epoch for metrics in training.model.history] == [1, 2]
    assert training.model.best == max(
        training.model.history, key=lambda m: (m.validation_accuracy, -m.validation_nll)
    )


def test_the_same_config_and_data_give_the_same_weights(trained: Trained) -> None:
    """On a CPU, to the last bit; progress is reported epoch by epoch."""
    pipeline = trained.pipeline.copy()
    again = pipeline.train(trained.dataset, epochs=2, batch_size=32)
    mine, theirs = (read_training(pipeline.objects, uri).model for uri in (again, trained.training))
    assert mine.weights == theirs.weights


def test_every_epoch_is_reported(trained: Trained, tmp_path: Path) -> None:
    """For a progress bar or a log."""
    told: list[EpochMetrics] = []

    class Listener(TrainingCallback):
        def on_validation(self, metrics: EpochMetrics, model: DigitClassifier) -> None:
            told.append(metrics)

    train(
        trained.dataset,
        objects=trained.pipeline.copy().objects,
        config=TrainingConfig(epochs=2, batch_size=640),
        device="cpu",
        folder=tmp_path,
        callback=Listener(),
    )
    assert [metrics.epoch for metrics in told] == [1, 2]


def test_a_training_whose_weights_are_damaged_is_refused(trained: Trained) -> None:
    """Before they are used."""
    pipeline = trained.pipeline.copy()
    weights = str(get_json(pipeline.objects, trained.training)["weights"])
    pipeline.objects.objects[weights.removeprefix(pipeline.objects.uri(""))] += b"\0"
    with pytest.raises(Damaged, match="sha256"):
        read_training(pipeline.objects, trained.training)


@pytest.mark.parametrize("document", [{}, {"dataset": "x"}, {"dataset": 1, "weights": 2, "history": 3}])
def test_what_is_no_training_is_damaged(trained: Trained, document: dict[str, object]) -> None:
    """The URI may name any other object."""
    objects = trained.pipeline.copy().objects
    uri = put_json(objects, "other", Generation("tests"), "x.json", document)
    with pytest.raises(Permanent):
        read_training(objects, uri)


# --- evaluate


def test_a_challenger_is_measured_on_validation_and_test(trained: Trained) -> None:
    """On every example of both folds, and there is no champion yet."""
    pipeline = trained.pipeline
    comparison = read_evaluation(pipeline.objects, trained.evaluation)
    dataset = read_dataset(pipeline.objects, trained.dataset)
    assert {fold: e.samples for fold, e in comparison.challenger.items()} == {
        "validation": dataset.folds["validation"],
        "test": dataset.folds["test"],
    }
    assert (comparison.champion, comparison.champion_test) == (None, None)
    assert comparison.challenger["test"].accuracy > 0.5


def test_the_champion_is_measured_on_the_same_test_fold(
    released: Pipeline, refused: tuple[Pipeline, str, GateResult]
) -> None:
    """Its metrics there equal those of its own evaluation."""
    pipeline, evaluation, _ = refused
    comparison = read_evaluation(pipeline.objects, evaluation)
    champion = released.models.champion(MODEL)
    (registered,) = released.models.models(MODEL)
    assert comparison.champion == champion
    assert comparison.champion_test is not None
    assert comparison.champion_test.accuracy == pytest.approx(registered.metrics["test_accuracy"])


def test_an_evaluation_comes_back_as_it_was(refused: tuple[Pipeline, str, GateResult]) -> None:
    """The confusion matrix too: tuples, not lists."""
    pipeline, evaluation, _ = refused
    comparison = read_evaluation(pipeline.objects, evaluation)
    test = comparison.challenger["test"]
    assert sum(map(sum, test.confusion)) == test.samples
    assert hash(test) == hash(read_evaluation(pipeline.objects, evaluation).challenger["test"])


@pytest.mark.parametrize("document", [{}, {"challenger": {"test": {}}, "training": "x"}])
def test_what_is_no_evaluation_is_damaged(trained: Trained, document: dict[str, object]) -> None:
    """The URI may name any other object."""
    objects = trained.pipeline.copy().objects
    defaults = {"champion": None, "champion_test": None, "training": "x"}
    uri = put_json(objects, "other", Generation("tests"), "x.json", defaults | document)
    with pytest.raises(Damaged):
        read_evaluation(objects, uri)


# --- release


def test_the_first_good_model_becomes_champion_as_version_one(released: Pipeline) -> None:
    """And is registered with its figures and its training."""
    champion = released.models.champion(MODEL)
    (registered,) = released.models.models(MODEL)
    assert champion == registered.bundle
    assert (registered.bundle.name, registered.bundle.version) == (MODEL, 1)
    assert set(registered.metrics) == {
        *("test_accuracy", "test_accuracy_low", "test_accuracy_high"),
        *("test_nll", "test_brier", "test_ece", "test_samples"),
    }


def test_a_released_bundle_says_where_it_comes_from(released: Pipeline, trained: Trained, tmp_path) -> None:
    """Data set, training and label table, in a card that the digest names."""
    champion = released.models.champion(MODEL)
    assert champion is not None
    card = load_card(download_bundle(released.objects, champion, tmp_path), champion.digest)
    assert card.dataset_digest == f"sha256:{digest_in_name(trained.dataset)}"
    assert card.training_digest == f"sha256:{digest_in_name(trained.training)}"
    assert champion.uri.endswith(f"models/{MODEL}/000001-{champion.digest.removeprefix('sha256:')}")


def test_the_released_model_says_what_its_evaluation_said(
    released: Pipeline, trained: Trained, classifier: Classifier
) -> None:
    """ONNX in the bundle and torch in the evaluation agree on every test example."""
    (registered,) = released.models.models(MODEL)
    dataset = read_dataset(released.objects, trained.dataset)
    examples = load_fold(released.objects, dataset, Fold.TEST)
    accuracy = (classifier.probabilities(examples.images).argmax(axis=1) == examples.labels).mean()
    assert accuracy == pytest.approx(registered.metrics["test_accuracy"])


def test_a_release_makes_a_candidate_and_no_champion(first_candidate: tuple[Pipeline, GateResult]) -> None:
    """However good it is; the result has the gate's decision."""
    pipeline, result = first_candidate
    assert (result.promote, result.promoted) == (True, False)
    assert result.why.startswith("good enough as the first champion: accuracy ")
    assert pipeline.models.champion(MODEL) is None


def test_the_gates_decision_is_registered_with_the_model(
    refused: tuple[Pipeline, str, GateResult],
) -> None:
    """The gate's numbers, of a model that passed and of one that was refused."""
    pipeline, _, result = refused
    passed, candidate = (model.decision for model in pipeline.models.models(MODEL))
    assert passed is not None
    assert (passed.promote, passed.p_value) == (True, None)
    assert passed.compared_with is None
    assert result.champion is not None
    assert candidate == Decision(
        promote=False, why=result.why, p_value=result.p_value, compared_with=result.champion
    )


@pytest.fixture(scope="module")
def inaccurate(trained: Trained) -> tuple[Pipeline, GateResult]:
    """A pipeline whose first version is not accurate enough for its gate; copy it before changing it."""
    pipeline = trained.pipeline.copy()
    return pipeline, pipeline.promote(trained.evaluation, Gate(minimum_accuracy=1.0))


def test_a_first_model_that_is_not_accurate_enough_is_a_candidate(
    inaccurate: tuple[Pipeline, GateResult],
) -> None:
    """The reason has the numbers."""
    pipeline, result = inaccurate
    assert not result.promoted
    assert result.why.startswith("refused, not accurate enough: ")
    assert pipeline.models.champion(MODEL) is None
    assert len(pipeline.models.models(MODEL)) == 1


def test_a_first_model_that_is_uncalibrated_on_the_test_fold_is_a_candidate(trained: Trained) -> None:
    """The gate gets the calibrated test fold's number: every other one, and that of chance, would pass."""
    pipeline, gate = trained.pipeline.copy(), Gate(minimum_accuracy=0.5)
    assert pipeline.copy().promote(trained.evaluation, gate).promoted
    result = pipeline.promote(miscalibrated(pipeline, trained.evaluation), gate)
    assert not result.promoted
    assert result.why.startswith("refused, uncalibrated: ")
    assert pipeline.models.champion(MODEL) is None
    assert len(pipeline.models.models(MODEL)) == 1


def test_a_candidate_that_another_gate_lets_pass_has_its_decision_replaced(
    inaccurate: tuple[Pipeline, GateResult], trained: Trained
) -> None:
    """The version, its bundle and its figures stay."""
    pipeline = inaccurate[0].copy()
    (before,) = pipeline.models.models(MODEL)
    pipeline.at += timedelta(days=1)
    result = pipeline.release(trained.evaluation)
    (after,) = pipeline.models.models(MODEL)
    assert after == dataclasses.replace(before, decision=Decision(promote=True, why=result.why, p_value=None))


def test_repeating_a_release_changes_nothing(
    first_candidate: tuple[Pipeline, GateResult], released: Pipeline, trained: Trained
) -> None:
    """Same version, same bundle, same objects; and the same gate result, after its promotion too."""
    pipeline, first = released.copy(), first_candidate[1]
    before = dict(pipeline.objects.objects)
    pipeline.at += timedelta(days=1)
    assert pipeline.release(trained.evaluation) == first
    assert pipeline.objects.objects == before
    assert pipeline.models.models(MODEL) == released.models.models(MODEL)


def test_a_champion_that_is_measured_against_itself_keeps_its_decision(
    released: Pipeline, trained: Trained
) -> None:
    """A tie with itself is no reason to refuse it."""
    pipeline = released.copy()
    result = pipeline.promote(pipeline.evaluate(trained.training))
    assert (result.promote, result.why) == (False, "it is the champion already")
    assert pipeline.models.models(MODEL) == released.models.models(MODEL)
    assert pipeline.models.champion(MODEL) == result.bundle


def test_a_card_holds_no_clock(released: Pipeline) -> None:
    """The same training gives the same card, and so the same digest, whenever it is released."""
    champion = released.models.champion(MODEL)
    assert champion is not None
    card = json.loads(released.objects.get_bytes(f"{champion.uri}/card.json"))
    assert str(AT.year) not in json.dumps(
        {name: card[name] for name in card if name not in ("files", "metrics")}
    )
