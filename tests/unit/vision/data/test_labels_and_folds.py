"""Labels come from a table, and folds from the bytes of an image."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.labels import DIGITS, LabelTable
from mnist_ops.vision.data.folds import Fold, fold_of


@given(st.integers(0, 9))
def test_a_label_is_found_by_its_name_and_by_its_index(index: int) -> None:
    """All accepted spellings of a digit give the same class."""
    name = DIGITS.name(index)
    assert {DIGITS.index(spelling) for spelling in (name, f" {name.upper()} ", index, str(index))} == {index}


@pytest.mark.parametrize("label", [True, False, None, 7.5, 10, -1, "ten", "", "07", "٣", "9" * 5000, b"7"])
def test_any_other_value_is_not_a_label(label: object) -> None:
    """A label is never guessed."""
    assert DIGITS.index(label) is None


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none()))
def test_no_label_makes_the_table_fail(label: object) -> None:
    """A record may hold any value."""
    assert DIGITS.index(label) in {None, *range(10)}


def test_an_index_outside_the_table_has_no_name() -> None:
    """Negative indices do not count from the end."""
    with pytest.raises(IndexError):
        DIGITS.name(-1)


@pytest.mark.parametrize("names", [("one", " One"), ("one", "")])
def test_a_table_of_equal_or_empty_names_is_refused(names: tuple[str, ...]) -> None:
    """A label must mean one class."""
    with pytest.raises(ValueError, match="distinct"):
        LabelTable(names)


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
