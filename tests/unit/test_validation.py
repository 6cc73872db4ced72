"""The problems of a pydantic error, as every caller reports them."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field, ValidationError

from mnist_ops.validation import Problem, problems_of, validation_error


class Pair(BaseModel):
    """Something to validate."""

    sizes: tuple[Annotated[int, Field(ge=1)], int]


def test_a_problem_has_the_path_of_its_field() -> None:
    """And never the value, which may be a password."""
    with pytest.raises(ValidationError) as caught:
        Pair.model_validate({"sizes": (0, "secret")})
    assert [str(problem) for problem in problems_of(caught.value)] == [
        "sizes.0: must be greater than or equal to 1",
        "sizes.1: must be a valid integer",
    ]


def test_a_problem_of_the_whole_input_has_no_field() -> None:
    """Its message is enough."""
    with pytest.raises(ValidationError) as caught:
        Pair.model_validate_json("{")
    (problem,) = problems_of(caught.value)
    assert problem.field == ""
    assert str(problem).startswith("Invalid JSON")


def test_problems_survive_a_round_trip_through_an_error() -> None:
    """Braces in a message are no placeholders."""
    problems = [Problem("sweep.epochs", "got {0}"), Problem("seed", "there is no such field")]
    error = validation_error("TrainingConfig", problems)
    assert error.title == "TrainingConfig"
    assert problems_of(error) == problems
