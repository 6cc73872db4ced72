"""The problems that a pydantic `ValidationError` reports, one by one.

The command line prints a line for each and exits with 2. Operators, and readers of stored documents, put them
into the message of their own error.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

_STARTS = {"Value error, ": "", "Input should ": "must ", "String should ": "must "}

_PARSER = ", unable to parse "  # what follows says how pydantic reads the text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with some input.

    Attributes:
        field: the path of the value, joined by dots, such as `sweep.epochs`; empty for the input as a whole.
        message: what is wrong with it.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def problems_of(error: ValidationError) -> list[Problem]:
    """Return the problems of an error, without the values, which may be secret."""
    details = error.errors(include_url=False, include_input=False)
    return [Problem(".".join(map(str, detail["loc"])), plain_message(detail["msg"])) for detail in details]


def plain_message(message: str) -> str:
    """A message of pydantic's, as a sentence about the field that is named before it."""
    for start, plain in _STARTS.items():
        if message.startswith(start):
            return plain + message.removeprefix(start).partition(_PARSER)[0]
    return message


def validation_error(title: str, problems: Iterable[Problem]) -> ValidationError:
    """Make an error of problems that were found without pydantic; `problems_of` returns them again.

    Args:
        title: what is invalid, such as the name of a model.
        problems: at least one.
    """
    return ValidationError.from_exception_data(
        title,
        [
            InitErrorDetails(
                type=PydanticCustomError("invalid", "{message}", {"message": problem.message}),
                loc=tuple(problem.field.split(".")),
                input=None,
            )
            for problem in problems
        ],
    )
