"""The fold of an image, which never changes."""

from enum import StrEnum

HELD_OUT_SHARE = 0.1  # of all images: the validation fold, and as many the test fold


class Fold(StrEnum):
    """The part of the dataset that an example belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def fold_of(sha256_hex: str) -> Fold:
    """The fold of an image: 80 % train, 10 % validation, 10 % test.

    It depends only on the image's bytes: duplicates are in the same fold, and an example stays in its fold
    when others are added.

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
