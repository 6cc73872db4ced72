"""The keys that answer a review, one for each label."""

from collections.abc import Sequence

SKIP, UNDO, NONE_FITS = "s", "u", "x"
_DIGIT_KEYS = 10


def label_keys(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The keys of each label, in the order of the label table.

    The first ten labels have the digit of their index. Where all labels begin with different letters, none
    of which means something else on the page, each has its first letter too. A label beyond the tenth
    without a letter has no key, only its button.
    """
    letters = [name.strip()[:1].casefold() for name in names]
    distinct = len(set(letters)) == len(letters) and not {SKIP, UNDO, NONE_FITS, ""} & set(letters)
    usable = distinct and not any(letter.isdecimal() for letter in letters)
    return tuple(
        (*((str(index),) if index < _DIGIT_KEYS else ()), *((letter,) if usable else ()))
        for index, letter in enumerate(letters)
    )
