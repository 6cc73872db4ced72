"""The problems of a training configuration: what is wrong, the value, and where it was set.

The messages are pydantic's, in plain words. They end with the value and with its origin, such as a file or
`--set epochs=0`.
"""

import difflib
import json
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from mnist_ops.validation import Problem, plain_message, validation_error
from mnist_ops.vision.config.schema import TrainingConfig

FIELDS = tuple(TrainingConfig.model_fields)

_MAX_LENGTH = 80  # characters of a value in a message
_SIMILARITY = 0.5  # how near a field's name must be to be suggested, 0 to 1


def config_error(*problems: Problem) -> ValidationError:
    """The error of a configuration that has these problems, to be raised."""
    return validation_error("TrainingConfig", problems)


def validated_config(values: Mapping[str, object], origins: Mapping[str, str]) -> TrainingConfig:
    """Validate values by field. They are taken as JSON: `"3"` is not a number, and 1.5 not an integer.

    Args:
        values: those that differ from the defaults.
        origins: where each value was set, such as a file's name.

    Raises:
        ValidationError: some values are not allowed.
    """
    try:
        return TrainingConfig.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise config_error(*described(error, origins)) from error


def described(error: ValidationError, origins: Mapping[str, str]) -> list[Problem]:
    """The problems of an error of pydantic, each with the value and its origin."""
    problems = []
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        if detail["type"] == "extra_forbidden":
            message = unknown_field(name, (*FIELDS, "extend", "sweep"))
        else:
            message = f"{plain_message(detail['msg'])}; got {as_json(detail['input'])}"
        path = ".".join(map(str, detail["loc"]))
        problems.append(Problem(path, message + suffix(origins.get(name))))
    return problems


def unknown_field(name: str, known: Sequence[str] = FIELDS) -> str:
    """The message for a field that does not exist, or not in this place."""
    nearest = difflib.get_close_matches(name, [field for field in known if field != name], 1, _SIMILARITY)
    hint = f"did you mean {nearest[0]}?" if nearest else "`mnist-ops config schema` lists the fields"
    return f"there is no such field; {hint}"


def suffix(origin: str | None) -> str:
    """The end of a message: where the value was set, if that is known."""
    return "" if origin is None else f" ({origin})"


def as_json(value: object) -> str:
    """A value as JSON, truncated if it is long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
