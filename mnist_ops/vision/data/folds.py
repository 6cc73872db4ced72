"""Which fold an image belongs to, for ever."""

from enum import StrEnum


class Fold(StrEnum):
    """What an example is used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def fold_of(sha256_hex: str) -> Fold:
    """The fold of an image: 80 % train, 10 % validation, 10 % test.

    It depends on the image's bytes alone: duplicates never cross folds, and an example never moves
    when others arrive.

    Args:
        sha256_hex: the sha256 of the image's encoded bytes, 64 hexadecimal digits.

    Raises:
        ValueError: not a sha256.
    """
    if len(sha256_hex) != 64:
        raise ValueError(f"a sha256 has 64 hexadecimal digits, this has {len(sha256_hex)}")
    tenth = int(sha256_hex, 16) % 10
    if tenth == 9:
        return Fold.TEST
    return Fold.VALIDATION if tenth == 8 else Fold.TRAIN
