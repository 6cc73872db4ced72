"""Which key answers which label."""

import pytest

from mnist_ops.domain.label_keys import label_keys
from mnist_ops.domain.labels import DIGITS


def test_digits_are_answered_by_their_own_key() -> None:
    """Their names share first letters, so a letter would be ambiguous."""
    assert label_keys(DIGITS.names) == tuple((str(digit),) for digit in range(10))


def test_names_with_different_first_letters_have_these_too() -> None:
    """Letters are easier to find than the index of a name."""
    assert label_keys(("Apple", "bird", " car")) == (("0", "a"), ("1", "b"), ("2", "c"))


@pytest.mark.parametrize(
    "names", [("apple", "Ant"), ("apple", "shoe"), ("apple", "urn"), ("apple", "xylophone"), ("7", "9")]
)
def test_no_letter_is_given_where_one_would_mean_two_things(names: tuple[str, ...]) -> None:
    """S skips, U undoes, X says that no label fits, and digits are indices."""
    assert label_keys(names) == (("0",), ("1",))


def test_a_label_beyond_the_tenth_has_its_letter_only() -> None:
    """Or no key at all."""
    letters = tuple("abcdefghijkl")
    assert label_keys(letters)[9:] == (("9", "j"), ("k",), ("l",))
    assert label_keys(("a", *letters))[10:] == ((), (), ())
