"""A training configuration that is refused: a sentence a problem, with the value and what is allowed.

The sentences are those of a pydantic `ValidationError`, as the settings' are: the command line prints a
line for each and exits with 2, and the operators fail their task with them.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from mnist_ops.vision.config.schema import TrainingConfig

FIELDS = tuple(TrainingConfig.model_fields)

_LONGEST = 80  # characters of a value that are repeated
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a text",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        field: the name of what is wrong, such as `epochs` or `sweep.epochs`.
        sentence: the value and what is allowed.
    """

    field: str
    sentence: str


def refusal(problems: Iterable[Problem]) -> ValidationError:
    """The error that says some problems, to be raised."""
    return ValidationError.from_exception_data(
        "TrainingConfig",
        [
            InitErrorDetails(
                type=PydanticCustomError("not_allowed", "{sentence}", {"sentence": problem.sentence}),
                loc=tuple(problem.field.split(".")),
                input=None,
            )
            for problem in problems
        ],
    )


def not_allowed(value: object, allowed: str) -> str:
    """The sentence for a value that cannot be taken."""
    return f"{shown(value)} is not allowed: {allowed}"


def unknown(field: str, known: Sequence[str] = FIELDS) -> str:
    """The sentence for a field that there is not, or not there."""
    # Without a limit to how near it must be, there always is one.
    (nearest,) = difflib.get_close_matches(field, [name for name in known if name != field], 1, cutoff=0)
    return f"there is no such field; the nearest is {nearest}"


def config_of(values: Mapping[str, object], origins: Mapping[str, str] | None = None) -> TrainingConfig:
    """A configuration of values by field, as JSON has them: nothing is taken for what it only resembles.

    Args:
        values: those that are not the defaults.
        origins: where each value was written, such as a file's name.

    Raises:
        ValidationError: with a sentence a problem.
    """
    try:
        return TrainingConfig.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise refusal(_in_our_words(error, values, origins or {})) from error


def problems_of(refused: ValidationError) -> list[Problem]:
    """The problems that a `refusal` says."""
    details = refused.errors(include_url=False)
    return [Problem(".".join(map(str, detail["loc"])), detail["msg"]) for detail in details]


def _in_our_words(
    error: ValidationError, values: Mapping[str, object], origins: Mapping[str, str]
) -> list[Problem]:
    """One problem a field, however many pydantic found in its parts."""
    found: dict[str, Problem] = {}
    for detail in error.errors(include_url=False):
        field = str(detail["loc"][0])
        sentence = _sentence(detail, field, values[field])
        found.setdefault(field, Problem(field, sentence + from_where(origins.get(field))))
    return list(found.values())


def from_where(origin: str | None) -> str:
    """What a sentence ends with, so that people find the value: where it was written."""
    return "" if origin is None else f" ({origin})"


def _sentence(detail: ErrorDetails, field: str, value: object) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return unknown(field, (*FIELDS, "extend", "sweep"))
        case "value_error":
            return not_allowed(value, str(detail["ctx"]["error"]))
        case _:
            return not_allowed(value, allowed_in(field))


def allowed_in(field: str) -> str:
    """What a field takes, in words."""
    return _described(_schema()["properties"][field])


@cache
def _schema() -> dict[str, Any]:
    return TrainingConfig.model_json_schema()


def _described(schema: Mapping[str, Any]) -> str:
    """What a JSON schema takes, in words."""
    if "$ref" in schema:
        schema = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return ", or ".join(map(_described, schema["anyOf"]))
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if "prefixItems" in schema:
        # All of them are of one kind.
        return f"a list of {len(schema['prefixItems'])}, each {_described(schema['prefixItems'][0])}"
    bounds = [f"{words} {schema[bound]}" for bound, words in _BOUNDS.items() if bound in schema]
    kind = _KINDS[schema["type"]]
    return f"{kind} of {' and '.join(bounds)}" if bounds else kind


def shown(value: object) -> str:
    """A value as JSON writes it, cut where it is long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
