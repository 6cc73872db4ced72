"""Choose: the best trial by the validation fold alone."""

import json
import subprocess
import sys
from typing import Any

import pytest

from mnist_ops.domain.errors import Damaged, ObjectMissing, Permanent
from mnist_ops.domain.keys import Generation
from mnist_ops.steps.artifacts.datasets import load_fold, read_dataset
from mnist_ops.steps.artifacts.objects import get_json, put_json
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.steps.choose import choose, read_choice
from mnist_ops.vision.data.folds import Fold
from tests.support.pipeline_in_memory import Pipeline, Trained


@pytest.fixture
def pipeline(trained: Trained) -> Pipeline:
    """A pipeline with a data set and a training of it."""
    return trained.pipeline.copy()


def another(pipeline: Pipeline, trained: Trained, accuracy: float, nll: float = 0.5, **config: object) -> str:
    """Store a training with these validation metrics in its first epoch, and worse ones in its second."""
    document: dict[str, Any] = get_json(pipeline.objects, trained.training)
    measured = {"train_loss": 1.0, "validation_accuracy": accuracy, "validation_nll": nll}
    history = [
        {"epoch": 1, "step": 5, **measured},
        {"epoch": 2, "step": 9, **measured, "validation_nll": 9.0},
    ]
    document |= {"history": history, "best_step": 5, "config": document["config"] | config}
    return put_json(pipeline.objects, "trainings", Generation("x"), "training.json", document)


def test_the_highest_validation_accuracy_wins(pipeline: Pipeline, trained: Trained) -> None:
    """The accuracy of the kept weights, not of the last epoch."""
    uris = [another(pipeline, trained, accuracy, seed=seed) for seed, accuracy in enumerate((0.8, 0.9, 0.7))]
    choice = read_choice(pipeline.objects, choose(uris, objects=pipeline.objects))
    assert choice.winner == uris[1]


def test_among_equals_the_lower_nll_wins(pipeline: Pipeline, trained: Trained) -> None:
    """Its probabilities are better."""
    uris = [another(pipeline, trained, 0.9, nll) for nll in (0.3, 0.2, 0.4)]
    assert read_choice(pipeline.objects, choose(uris, objects=pipeline.objects)).winner == uris[1]


def test_among_equals_the_smaller_network_wins(pipeline: Pipeline, trained: Trained) -> None:
    """It costs less for the same result."""
    former = get_json(pipeline.objects, trained.training)
    assert former["parameters"] == 61_750
    documents = [former | {"parameters": parameters} for parameters in (70_000, 61_750, 80_000)]
    uris = [
        put_json(pipeline.objects, "trainings", Generation("x"), "training.json", one) for one in documents
    ]
    choice = read_choice(pipeline.objects, choose(uris, objects=pipeline.objects))
    assert choice.winner == uris[1]
    assert choice.trials[1].parameters == 61_750


def test_among_equals_the_first_wins(pipeline: Pipeline, trained: Trained) -> None:
    """So that the choice is always the same."""
    uris = [another(pipeline, trained, 0.9, seed=seed) for seed in (7, 8)]
    for order in (uris, uris[::-1]):
        assert read_choice(pipeline.objects, choose(order, objects=pipeline.objects)).winner == order[0]


def test_the_table_has_a_row_a_trial_with_what_differs(pipeline: Pipeline, trained: Trained) -> None:
    """And with its best epoch."""
    uris = [another(pipeline, trained, 0.8, 0.6, seed=1), another(pipeline, trained, 0.9, 0.4, seed=2)]
    choice = read_choice(pipeline.objects, choose(uris, objects=pipeline.objects))
    assert choice.dataset == trained.dataset
    assert [
        (row.training, row.differences, row.validation_accuracy, row.validation_nll, row.best_epoch)
        for row in choice.trials
    ] == [(uris[0], {"seed": 1}, 0.8, 0.6, 1), (uris[1], {"seed": 2}, 0.9, 0.4, 1)]


def test_a_real_training_can_be_the_one_trial(pipeline: Pipeline, trained: Trained) -> None:
    """A single trial has no differences."""
    choice = read_choice(pipeline.objects, choose([trained.training], objects=pipeline.objects))
    best = read_training(pipeline.objects, trained.training).model.best
    (row,) = choice.trials
    assert (row.differences, row.validation_accuracy) == ({}, best.validation_accuracy)
    assert choice.winner == trained.training


def test_a_data_set_whose_test_fold_cannot_be_read_still_chooses(
    pipeline: Pipeline, trained: Trained
) -> None:
    """Nor can any other fold: all are in one file, which is gone."""
    uris = [another(pipeline, trained, accuracy) for accuracy in (0.8, 0.9)]
    dataset = read_dataset(pipeline.objects, trained.dataset)
    del pipeline.objects.objects[dataset.rows.removeprefix(pipeline.objects.uri(""))]
    with pytest.raises(ObjectMissing):
        load_fold(pipeline.objects, dataset, Fold.TEST)
    assert read_choice(pipeline.objects, choose(uris, objects=pipeline.objects)).winner == uris[1]


def test_choosing_twice_gives_the_same_table(pipeline: Pipeline, trained: Trained) -> None:
    """Repeating it writes nothing new."""
    uris = [another(pipeline, trained, accuracy) for accuracy in (0.8, 0.9)]
    first = choose(uris, objects=pipeline.objects)
    before = dict(pipeline.objects.objects)
    assert choose(uris, objects=pipeline.objects) == first
    assert pipeline.objects.objects == before
    assert "/sweep-" in first


def test_trainings_of_two_data_sets_are_not_compared(pipeline: Pipeline, trained: Trained) -> None:
    """Their validation folds differ; both are named."""
    copied = get_json(pipeline.objects, trained.dataset) | {"quarantined": {"label_conflict": 1}}
    other = put_json(pipeline.objects, "datasets", Generation("x"), "dataset.json", copied)
    document = get_json(pipeline.objects, trained.training) | {"dataset": other}
    stranger = put_json(pipeline.objects, "trainings", Generation("x"), "training.json", document)
    with pytest.raises(Permanent, match="2 data sets") as refused:
        choose([trained.training, stranger], objects=pipeline.objects)
    assert other in str(refused.value)


def test_there_must_be_something_to_choose_from(pipeline: Pipeline) -> None:
    """For example, every trial failed."""
    with pytest.raises(Permanent, match="no training"):
        choose([], objects=pipeline.objects)


@pytest.mark.parametrize(
    "change", [{"trials": 3}, {"winner": None}, {"winner": "memory://objects/other"}, {"trials": []}]
)
def test_what_is_no_table_is_damaged(pipeline: Pipeline, trained: Trained, change: dict[str, object]) -> None:
    """The URI may name any other object."""
    document = json.loads(pipeline.objects.get_bytes(choose([trained.training], objects=pipeline.objects)))
    uri = put_json(pipeline.objects, "other", Generation("tests"), "x.json", document | change)
    with pytest.raises(Damaged):
        read_choice(pipeline.objects, uri)


def test_choosing_needs_no_torch() -> None:
    """Importing it takes seconds."""
    script = "import sys, mnist_ops.steps.choose; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
