"""Choosing the images to label next; images of the hold-out folds are chosen at random only."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.local.sample_digits import load, png
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.data.folds import Fold, fold_of
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.training.active_learning import (
    Candidates,
    Pick,
    Purpose,
    choose_for_labelling,
    most_useful,
    purpose_of,
)
from mnist_ops.vision.training.trainer import train


def sha(number: int) -> str:
    """Return the digest of an image."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def certain(count: int) -> NDArray[np.float32]:
    """Return probabilities (count, 10) of a model that is certain of every image."""
    probabilities = np.full((count, 10), 1e-4, np.float32)
    probabilities[np.arange(count), np.arange(count) % 10] = 1 - 9e-4
    return probabilities


SHAS = [sha(number) for number in range(400)]
HELD_OUT = [index for index, image in enumerate(SHAS) if fold_of(image) is not Fold.TRAIN]
FOR_TRAINING = [index for index, image in enumerate(SHAS) if fold_of(image) is Fold.TRAIN]


@given(
    numbers=st.lists(st.integers(0, 60), max_size=80),
    labelled=st.sets(st.integers(0, 60).map(sha)),
    count=st.integers(0, 50),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_no_image_is_picked_for_the_purpose_of_another_fold(
    numbers: list[int], labelled: set[str], count: int, share: float, seed: int
) -> None:
    """Each image is picked once, none is labelled already, and each has its fold's purpose."""
    random = np.random.default_rng(seed)
    candidates = Candidates([sha(number) for number in numbers], random.dirichlet(np.ones(10), len(numbers)))
    choice = choose_for_labelling(candidates, count, random, labelled=labelled, holdout_share=share)
    images = [pick.sha256 for pick in choice.picks]
    assert len(images) == len(set(images)) <= count
    assert not labelled & set(images)
    assert all(candidates.sha256[pick.index] == pick.sha256 for pick in choice.picks)
    for pick in choice.picks:
        assert (fold_of(pick.sha256) is Fold.TRAIN) == (pick.purpose is Purpose.TRAIN)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_uncertainty_never_chooses_from_the_hold_out(share: float) -> None:
    """Also if only hold-out images are uncertain."""
    probabilities = certain(len(SHAS))
    probabilities[HELD_OUT] = 0.1
    choice = choose_for_labelling(
        Candidates(SHAS, probabilities), 50, np.random.default_rng(0), holdout_share=share
    )
    assert len(choice.of(Purpose.HOLDOUT)) == 50 * share
    assert {pick.index for pick in choice.of(Purpose.TRAIN)} <= set(FOR_TRAINING)


def test_the_hold_out_picks_do_not_depend_on_the_model() -> None:
    """They depend on the images and the seed only."""
    drawn = set()
    for seed in range(5):
        probabilities = np.random.default_rng(seed).dirichlet(np.ones(10), len(SHAS))
        embeddings = np.random.default_rng(seed).normal(size=(len(SHAS), 4 + seed))
        choice = choose_for_labelling(
            Candidates(SHAS, probabilities, embeddings), 60, np.random.default_rng(1)
        )
        drawn.add(choice.of(Purpose.HOLDOUT))
    assert len(drawn) == 1


def test_predictions_for_the_hold_out_choose_nothing() -> None:
    """They do not change the picks for training either."""
    probabilities = np.random.default_rng(3).dirichlet(np.ones(10), len(SHAS))
    other = probabilities.copy()
    other[HELD_OUT] = 0.1
    first, second = (
        choose_for_labelling(Candidates(SHAS, each), 60, np.random.default_rng(1))
        for each in (probabilities, other)
    )
    assert first == second


def test_every_hold_out_image_is_equally_likely() -> None:
    """In 1,500 choices, though the model is uncertain of one of them."""
    probabilities = certain(len(SHAS))
    probabilities[HELD_OUT[0]] = 0.1
    candidates = Candidates(SHAS, probabilities)
    drawn = np.zeros(len(SHAS))
    for seed in range(1_500):
        choice = choose_for_labelling(candidates, 10, np.random.default_rng(seed), holdout_share=1.0)
        drawn[[pick.index for pick in choice.picks]] += 1
    expected = 1_500 * 10 / len(HELD_OUT)
    assert drawn[FOR_TRAINING].sum() == 0
    assert np.abs(drawn[HELD_OUT] - expected).max() < 5 * np.sqrt(expected)


def test_the_hold_out_does_not_replace_picks_for_training() -> None:
    """Too few candidates for one purpose give fewer picks."""
    only = [SHAS[index] for index in HELD_OUT]
    choice = choose_for_labelling(Candidates(only, certain(len(only))), 50, np.random.default_rng(0))
    assert len(choice.picks) == 10
    assert not choice.of(Purpose.TRAIN)


@pytest.mark.parametrize("index", [HELD_OUT[0], FOR_TRAINING[0]])
def test_a_pick_for_the_wrong_purpose_cannot_be_made(index: int) -> None:
    """`Pick` itself checks the purpose."""
    wrong = Purpose.TRAIN if index in HELD_OUT else Purpose.HOLDOUT
    with pytest.raises(ValueError, match=f"cannot be labelled for {wrong.value}"):
        Pick(index, SHAS[index], wrong)


def test_uncertain_images_are_chosen_before_certain_ones() -> None:
    """The ten uncertain ones among 200."""
    probabilities = certain(200)
    uncertain = np.arange(7, 200, 20)
    probabilities[uncertain] = np.random.default_rng(0).dirichlet(np.full(10, 5.0), len(uncertain))
    chosen = most_useful(probabilities, 10, np.random.default_rng(0))
    assert len(set(chosen.tolist()) & set(uncertain.tolist())) >= 9


def test_equal_images_are_not_picked_twice() -> None:
    """Three groups of equal images give one pick each."""
    probabilities = np.zeros((300, 10))
    for group in range(3):
        probabilities[group::3, [2 * group, 2 * group + 1]] = (0.55, 0.45)
    chosen = most_useful(probabilities, 3, np.random.default_rng(0))
    assert sorted(chosen % 3) == [0, 1, 2]


def test_embeddings_distinguish_images_with_equal_probabilities() -> None:
    """Images with different embeddings are picked."""
    embeddings = np.repeat(np.eye(4), 50, axis=0)
    chosen = most_useful(np.full((200, 10), 0.1), 4, np.random.default_rng(0), embeddings)
    assert sorted(chosen // 50) == [0, 1, 2, 3]


def test_images_that_the_model_cannot_tell_apart_are_picked_once_each() -> None:
    """All distances are 0; still no index occurs twice."""
    chosen = most_useful(np.full((20, 10), 0.1), 15, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 15


@pytest.mark.parametrize(
    ("probabilities", "embeddings", "message"),
    [
        (np.ones((3, 9)), None, r"probabilities must be \(2, 10\)"),
        (np.full((2, 10), np.nan), None, "not finite"),
        (np.full((2, 10), 0.1), np.ones((3, 5)), r"embeddings must be \(2, D\)"),
        (np.full((2, 10), 0.1), np.full((2, 5), np.inf), "not finite"),
    ],
)
def test_arrays_of_another_shape_or_not_finite_are_refused(
    probabilities: NDArray[np.float64], embeddings: NDArray[np.float64] | None, message: str
) -> None:
    """When the candidates are made."""
    with pytest.raises(Permanent, match=message):
        Candidates(SHAS[:2], probabilities, embeddings)


def test_an_impossible_share_is_refused() -> None:
    """It is a share, not a percentage."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose_for_labelling(Candidates(SHAS, certain(400)), 5, np.random.default_rng(0), holdout_share=20)


class _Labelling:
    """People who label sample digits in rounds, and the model that learns from them."""

    def __init__(self, seed: int) -> None:
        images, labels = load("train")
        self.images, self.labels = images[:3_000], labels[:3_000]
        self.shas = [hashlib.sha256(png(image)).hexdigest() for image in self.images]
        self.validation = Examples(images[9_000:9_200], labels[9_000:9_200])
        self.seed = seed

    def train(self, labelled: NDArray[np.intp]) -> tuple[float, NDArray[np.float32]]:
        """Train; return the accuracy on the sample's test digits and the probabilities of all images."""
        plain = dict.fromkeys(("rotate", "shear", "zoom", "shift", "elastic"), 0.0)
        config = TrainingConfig(epochs=8, batch_size=16, averaging=0.9, seed=self.seed, **plain)
        examples = Examples(self.images[labelled], self.labels[labelled])
        trained = train(examples, self.validation, config, torch.device("cpu"))
        forward = torch_forward(trained.config.network, trained.weights, "cpu")
        images, labels = load("test")
        accuracy = float((forward(images).argmax(axis=1) == labels).mean())
        return accuracy, softmax(forward(self.images), 1.0)

    def accuracy(self, *, actively: bool) -> float:
        """Return the accuracy after three rounds of forty labels each."""
        random = np.random.default_rng(self.seed)
        training = np.array([i for i, image in enumerate(self.shas) if purpose_of(image) is Purpose.TRAIN])
        labelled = random.permutation(training)[:40]
        for _ in range(3):
            left = np.setdiff1d(training, labelled)
            if actively:
                candidates = Candidates(self.shas, self.train(labelled)[1])
                known = {self.shas[index] for index in labelled}
                picks = choose_for_labelling(candidates, 50, random, labelled=known).of(Purpose.TRAIN)
                new = np.array([pick.index for pick in picks])
            else:
                new = random.permutation(left)[:40]
            assert len(new) == 40
            labelled = np.concatenate([labelled, new])
        return self.train(labelled)[0]


def test_active_learning_beats_random_at_equal_labels() -> None:
    """With 160 labels of 2,400 images and three seeds; the measured gain is five to ten points."""
    gains = []
    for seed in range(3):
        labelling = _Labelling(seed)
        gains.append(labelling.accuracy(actively=True) - labelling.accuracy(actively=False))
    assert np.mean(gains) > 0.02
    assert min(gains) > 0
