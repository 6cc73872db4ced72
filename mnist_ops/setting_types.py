"""The types of settings that are texts or shares. Each refuses a wrong one in words, with an example."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

# A wrong text is quoted only if it can hardly be a URI or a key that was given to the wrong variable.
_QUOTABLE = re.compile(r"[\w ./$-]{1,30}")

_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_SEGMENT = r"[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*"  # not only dots


def _text(pattern: str, expected: str) -> AfterValidator:
    """A validator of texts that match a pattern as a whole.

    Args:
        pattern: a regular expression.
        expected: the same in words, with an example.
    """

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            quoted = f"{text!r}: " if _QUOTABLE.fullmatch(text) else ""
            raise PydanticCustomError("text", "{problem}", {"problem": f"{quoted}expected {expected}"})
        return text

    return AfterValidator(check)


def _share(value: object, check: ValidatorFunctionWrapHandler) -> object:
    try:
        return check(value)
    except ValidationError:
        expected = "expected a number from 0 to 1, such as 0.2"
        raise PydanticCustomError("share", "{problem}", {"problem": expected}) from None


Share = Annotated[float, Field(ge=0, le=1), WrapValidator(_share)]
FieldPath = Annotated[
    str,
    _text(
        rf"{_WORD}(\.{_WORD})*",
        "letters, digits and _, no digit first, with dots into nested fields, such as picture.url",
    ),
]
FieldName = Annotated[
    str, _text(_WORD, "letters, digits and _, no digit first and no dot, such as prediction")
]
Database = Annotated[str, _text(r"[A-Za-z0-9_-]{1,63}", "up to 63 letters, digits, _ and -, such as mnist")]
Collection = Annotated[
    str,
    _text(
        r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*",
        "letters, digits, _ - and single dots between them, no digit first, such as records",
    ),
]
Bucket = Annotated[
    str,
    _text(
        r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", "3 to 63 letters, digits, . _ and -, such as mnist-ops"
    ),
]
KeyPrefix = Annotated[
    str,
    _text(
        rf"({_SEGMENT}(/{_SEGMENT})*)?",
        "letters, digits, _ . and -, with single / between folders and none at the ends, such as team/digits",
    ),
]
Slug = Annotated[str, _text(r"[a-z0-9][a-z0-9_-]*", "lower-case letters, digits, _ and -, such as lenet5")]
InstanceId = Annotated[
    str, _text(r"i-([0-9a-f]{8}|[0-9a-f]{17})", "the id of an EC2 instance, such as i-0123456789abcdef0")
]
Currency = Annotated[str, _text(r"[A-Z]{3}", "an ISO 4217 code of three capital letters, such as USD")]
