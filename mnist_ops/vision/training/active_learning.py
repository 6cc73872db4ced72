"""Which pictures people should label next, without spoiling the folds that models are measured on.

Labels help a model most where it is in doubt and where they differ from one another. A fold chosen so
would be harder than what production sees, and its accuracy would mean nothing. An image's bytes decide its
fold for ever, so the guard is simple: images of the train fold are chosen by score, those of the
validation and test folds by lot.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.data.examples import CLASSES
from mnist_ops.vision.data.folds import Fold, fold_of

_HOLDOUT_SHARE = 0.2  # of all images; with that share of the labels the folds keep their proportions


class Purpose(StrEnum):
    """What a label is asked for."""

    TRAIN = "train"
    HOLDOUT = "holdout"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pictures that nobody labelled.

    Attributes:
        sha256: of each image's encoded bytes, 64 hexadecimal digits; the same image may come twice.
        probabilities: (N, 10), what the model says of each.
        embeddings: (N, D), the network's last hidden layer, or None.

    Raises:
        Permanent: they differ in length, or a number is not finite.
    """

    sha256: Sequence[str]
    probabilities: NDArray[np.floating]
    embeddings: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        count = len(self.sha256)
        if self.probabilities.shape != (count, CLASSES):
            raise Permanent(f"probabilities must be ({count}, {CLASSES}), not {self.probabilities.shape}")
        if self.embeddings is not None and (self.embeddings.ndim != 2 or len(self.embeddings) != count):
            raise Permanent(f"embeddings must be ({count}, D), not {self.embeddings.shape}")
        for array in (self.probabilities, self.embeddings):
            if array is not None and not np.isfinite(array).all():
                raise Permanent("a probability or an embedding is not finite")


@dataclass(frozen=True, slots=True)
class Pick:
    """One picture to be labelled.

    Attributes:
        index: among the candidates.
        sha256: of its image.
        purpose: train, chosen by score; holdout, chosen by lot.

    Raises:
        ValueError: the image's fold serves the other purpose.
    """

    index: int
    sha256: str
    purpose: Purpose

    def __post_init__(self) -> None:
        if self.purpose is not purpose_of(self.sha256):
            raise ValueError(f"image {self.sha256} cannot be labelled for {self.purpose.value}")


@dataclass(frozen=True, slots=True)
class Choice:
    """The pictures to be labelled next, each image once; those for training first, in order of choice."""

    picks: tuple[Pick, ...]

    def of(self, purpose: Purpose) -> tuple[Pick, ...]:
        """The picks of one purpose."""
        return tuple(pick for pick in self.picks if pick.purpose is purpose)


def purpose_of(sha256_hex: str) -> Purpose:
    """What a label of this image may be used for.

    Raises:
        ValueError: not a sha256.
    """
    return Purpose.TRAIN if fold_of(sha256_hex) is Fold.TRAIN else Purpose.HOLDOUT


def choose_for_labelling(
    candidates: Candidates,
    count: int,
    random: np.random.Generator,
    *,
    labelled: Collection[str] = (),
    holdout_share: float = _HOLDOUT_SHARE,
) -> Choice:
    """Choose up to `count` pictures: for training by doubt and diversity, for the hold-out by lot.

    Fewer are chosen where the candidates of a purpose run out: neither fills in for the other.

    Args:
        candidates: what nobody labelled.
        count: how many labels people have time for.
        random: decides the lots and the first among equals.
        labelled: sha256 of images that have a label already, under another record: they are passed over.
        holdout_share: of the labels, 0 to 1.
    """
    if not 0 <= holdout_share <= 1:
        raise ValueError(f"a share of {holdout_share} is not between 0 and 1")
    indices = _distinct(candidates.sha256, labelled)
    train, holdout = (
        indices[[purpose_of(candidates.sha256[index]) is purpose for index in indices]]
        for purpose in (Purpose.TRAIN, Purpose.HOLDOUT)
    )
    # The lots come first: whatever the model says, the same ones are drawn.
    drawn = random.permutation(holdout)[: round(count * holdout_share)]
    embeddings = None if candidates.embeddings is None else candidates.embeddings[train]
    places = count - round(count * holdout_share)
    chosen = train[most_useful(candidates.probabilities[train], places, random, embeddings)]
    return Choice(
        tuple(
            Pick(int(index), candidates.sha256[index], purpose)
            for purpose, picked in ((Purpose.TRAIN, chosen), (Purpose.HOLDOUT, drawn))
            for index in picked
        )
    )


def most_useful(
    probabilities: NDArray[np.floating],
    count: int,
    random: np.random.Generator,
    embeddings: NDArray[np.floating] | None = None,
) -> NDArray[np.intp]:
    """The indices (at most `count`,) of those whose labels would change the model most, and differently.

    Each example stands where the gradient of its loss points, were the predicted class the true one: far
    out where the model is in doubt. Points are then drawn one after the other, the farther from those
    drawn, the likelier.

    Args:
        probabilities: (N, 10).
        count: how many.
        random: draws.
        embeddings: (N, D); without them the gradient at the last layer's biases serves.

    Source: J. T. Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds",
    ICLR 2020.
    """
    count = min(count, len(probabilities))
    if count <= 0:
        return np.empty(0, np.intp)
    doubt = probabilities.astype(np.float64)
    doubt[np.arange(len(doubt)), doubt.argmax(axis=1)] -= 1
    features = np.ones((len(doubt), 1)) if embeddings is None else embeddings.astype(np.float64)
    # The gradient is the outer product of the two, whose inner products need not be written out.
    lengths = (doubt**2).sum(axis=1) * (features**2).sum(axis=1)
    chosen = [int(lengths.argmax())]
    nearest = np.full(len(doubt), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        inner = (doubt @ doubt[last]) * (features @ features[last])
        nearest = np.minimum(nearest, np.maximum(0.0, lengths + lengths[last] - 2 * inner))
        nearest[chosen] = 0.0
        chosen.append(_drawn(nearest, chosen, random))
    return np.array(chosen, np.intp)


def _drawn(weights: NDArray[np.float64], taken: list[int], random: np.random.Generator) -> int:
    total = float(weights.sum())
    if total > 0:
        return int(random.choice(len(weights), p=weights / total))
    # The others are no farther than those taken: the same pictures to the model.
    return int(random.choice(np.setdiff1d(np.arange(len(weights)), taken)))


def _distinct(sha256: Sequence[str], labelled: Collection[str]) -> NDArray[np.intp]:
    """The first candidate of each image that has no label."""
    seen = set(labelled)
    first: list[int] = []
    for index, image in enumerate(sha256):
        if image not in seen:
            seen.add(image)
            first.append(index)
    return np.array(first, np.intp)
