"""Choose the images that people should label next, without biasing the folds that measure models.

Labels help a model most where it is uncertain and where the images differ from each other. A validation or
test fold chosen like that would be harder than production, and its accuracy would mean nothing. The bytes of
an image decide its fold for good. So images of the train fold are chosen by score, those of the other folds
at random.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.data.examples import CLASSES
from mnist_ops.vision.data.folds import Fold, fold_of

_HOLDOUT_SHARE = 0.2  # of all images; the same share of the labels keeps the folds' proportions


class Purpose(StrEnum):
    """What a label is used for."""

    TRAIN = "train"
    HOLDOUT = "holdout"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Images without a label.

    Attributes:
        sha256: the digests of the encoded images, 64 hexadecimal digits each; an image may occur twice.
        probabilities: (N, 10), the model's prediction for each image.
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
    """One image to label.

    Attributes:
        index: its index among the candidates.
        sha256: its digest.
        purpose: train, chosen by score; holdout, chosen at random.

    Raises:
        ValueError: the image's fold has the other purpose.
    """

    index: int
    sha256: str
    purpose: Purpose

    def __post_init__(self) -> None:
        if self.purpose is not purpose_of(self.sha256):
            raise ValueError(f"image {self.sha256} cannot be labelled for {self.purpose.value}")


@dataclass(frozen=True, slots=True)
class Choice:
    """The images to label next, each once: those for training first, in the order of choice."""

    picks: tuple[Pick, ...]

    def of(self, purpose: Purpose) -> tuple[Pick, ...]:
        """Return the picks with one purpose."""
        return tuple(pick for pick in self.picks if pick.purpose is purpose)


def purpose_of(sha256_hex: str) -> Purpose:
    """Return what a label of this image may be used for.

    Raises:
        ValueError: the text is not a sha256.
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
    """Choose up to `count` images: for training by uncertainty and diversity, for the hold-out at random.

    Fewer are chosen if one purpose has too few candidates: the other purpose does not replace them.

    Args:
        candidates: the images without a label.
        count: how many labels people have time for.
        random: draws the hold-out, and decides between equal candidates.
        labelled: sha256 of images that already have a label, under another record; they are skipped.
        holdout_share: the hold-out's share of the labels, 0 to 1.
    """
    if not 0 <= holdout_share <= 1:
        raise ValueError(f"a share of {holdout_share} is not between 0 and 1")
    indices = _distinct(candidates.sha256, labelled)
    train, holdout = (
        indices[[purpose_of(candidates.sha256[index]) is purpose for index in indices]]
        for purpose in (Purpose.TRAIN, Purpose.HOLDOUT)
    )
    # The hold-out is drawn first, so that it does not depend on the model.
    drawn = random.permutation(holdout)[: round(count * holdout_share)]
    embeddings = None if candidates.embeddings is None else candidates.embeddings[train]
    for_training = count - round(count * holdout_share)
    chosen = train[most_useful(candidates.probabilities[train], for_training, random, embeddings)]
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
    """Return up to `count` indices of examples whose labels would change the model most, in different ways.

    Each example is a point: the gradient of its loss if the predicted class were the true one. The gradient
    is long where the model is uncertain. Points are drawn one by one; the farther a point is from those
    already drawn, the more likely it is drawn.

    Args:
        probabilities: (N, 10).
        count: how many to choose.
        random: draws the points.
        embeddings: (N, D), for the gradient of the last layer's weights; None for that of its biases.

    Source: J. T. Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds",
    ICLR 2020.
    """
    count = min(count, len(probabilities))
    if count <= 0:
        return np.empty(0, np.intp)
    residuals = probabilities.astype(np.float64)
    residuals[np.arange(len(residuals)), residuals.argmax(axis=1)] -= 1
    features = np.ones((len(residuals), 1)) if embeddings is None else embeddings.astype(np.float64)
    # The gradient is the outer product of residual and feature: inner products do not need it in full.
    norms = (residuals**2).sum(axis=1) * (features**2).sum(axis=1)
    chosen = [int(norms.argmax())]
    nearest = np.full(len(residuals), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        inner = (residuals @ residuals[last]) * (features @ features[last])
        nearest = np.minimum(nearest, np.maximum(0.0, norms + norms[last] - 2 * inner))
        nearest[chosen] = 0.0
        chosen.append(_drawn(nearest, chosen, random))
    return np.array(chosen, np.intp)


def _drawn(weights: NDArray[np.float64], taken: list[int], random: np.random.Generator) -> int:
    total = float(weights.sum())
    if total > 0:
        return int(random.choice(len(weights), p=weights / total))
    # The others are at distance 0 of those taken: the model cannot tell them apart.
    return int(random.choice(np.setdiff1d(np.arange(len(weights)), taken)))


def _distinct(sha256: Sequence[str], labelled: Collection[str]) -> NDArray[np.intp]:
    """The index of the first candidate of each image without a label."""
    seen = set(labelled)
    first: list[int] = []
    for index, image in enumerate(sha256):
        if image not in seen:
            seen.add(image)
            first.append(index)
    return np.array(first, np.intp)
