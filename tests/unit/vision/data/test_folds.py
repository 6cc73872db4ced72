"""The fold of an image depends on its bytes alone."""

import hashlib
from collections import Counter

import pytest

from mnist_ops.vision.data.folds import Fold, fold_of


def test_folds_are_split_eight_one_one() -> None:
    """Of 20,000 images 80 %, 10 % and 10 % are in the folds."""
    folds = Counter(fold_of(hashlib.sha256(str(n).encode()).hexdigest()) for n in range(20_000))
    shares = [folds[fold] / 20_000 for fold in (Fold.TRAIN, Fold.VALIDATION, Fold.TEST)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


@pytest.mark.parametrize(
    ("last", "fold"), [("0", "train"), ("7", "train"), ("8", "validation"), ("9", "test"), ("a", "train")]
)
def test_the_fold_of_an_image_never_changes(last: str, fold: str) -> None:
    """Another rule would move existing records to other folds."""
    assert fold_of("0" * 63 + last) == fold


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "sha256:" + "0" * 64])
def test_only_a_sha256_has_a_fold(digest: str) -> None:
    """A digest in another form would silently get another fold."""
    with pytest.raises(ValueError, match=r"sha256|invalid literal"):
        fold_of(digest)
