"""A sweep: every combination of the values of some hyperparameters is a trial."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from mnist_ops.validation import Problem, problems_of
from mnist_ops.vision.config.errors import (
    FIELDS,
    config_error,
    described,
    suffix,
    unknown_field,
    validated_config,
)
from mnist_ops.vision.config.schema import TrainingConfig

MAX_TRIALS = 64

_GRID = TypeAdapter(dict[str, Annotated[list[Any], Field(min_length=1)]])


def trials(
    config: Mapping[str, object], grid: Mapping[str, object], origins: Mapping[str, str] | None = None
) -> tuple[TrainingConfig, ...]:
    """Return the trials of a grid: the cartesian product of its lists; the last field changes fastest.

    Args:
        config: the values that all trials share, by field.
        grid: the list of values to try, by field; it wins over the config. Without any field, the config
            is the only trial.
        origins: where the values were set, by field; `sweep.<field>` for those of the grid.

    Raises:
        ValidationError: a list is empty, a field is unknown, a value is not allowed, two trials are equal, or
            there are more than 64.
    """
    origins = origins or {}
    of_grid = {field: origins[f"sweep.{field}"] for field in grid if f"sweep.{field}" in origins}
    lists = _validated_grid(grid, of_grid)
    if (count := math.prod(map(len, lists.values()))) > MAX_TRIALS:
        raise config_error(Problem("sweep", f"{count} trials are not allowed: at most {MAX_TRIALS}"))
    # A value of the grid replaces the config's, so its problems are reported with the origin in the grid.
    of_trials = {field: origin for field, origin in origins.items() if field not in lists} | of_grid
    found: list[TrainingConfig] = []
    problems: list[Problem] = []
    for chosen in itertools.product(*lists.values()):
        try:
            found.append(validated_config({**config, **dict(zip(lists, chosen, strict=True))}, of_trials))
        except ValidationError as error:
            problems += problems_of(error)
    _raise_if_any(_as_in_file(problems, lists))
    _raise_if_any([*_equal_trials(found, next(iter(of_grid.values()), None))])
    return tuple(found)


def differences(configs: Sequence[TrainingConfig]) -> list[dict[str, object]]:
    """Return, for each config, the fields in which any two of them differ, with their JSON values."""
    values = [config.model_dump(mode="json") for config in configs]
    fields = [field for field in FIELDS if any(other[field] != values[0][field] for other in values)]
    return [{field: of_one[field] for field in fields} for of_one in values]


def _raise_if_any(problems: Sequence[Problem]) -> None:
    if problems:
        raise config_error(*problems)


def _validated_grid(grid: Mapping[str, object], origins: Mapping[str, str]) -> dict[str, list[Any]]:
    """The grid, where each value is a list and each field exists."""
    unknown = [field for field in grid if field not in FIELDS]
    problems = [Problem(field, unknown_field(field) + suffix(origins.get(field))) for field in unknown]
    try:
        lists = _GRID.validate_python({field: grid[field] for field in grid if field in FIELDS})
    except ValidationError as error:
        problems += described(error, origins)
    if problems:
        raise config_error(*(Problem(f"sweep.{problem.field}", problem.message) for problem in problems))
    return lists


def _as_in_file(problems: Sequence[Problem], grid: Mapping[str, object]) -> list[Problem]:
    """Each problem once, though several trials have it, under the name that the field has in the file."""
    return [
        Problem(f"sweep.{problem.field}", problem.message)
        if problem.field.partition(".")[0] in grid
        else problem
        for problem in dict.fromkeys(problems)
    ]


def _equal_trials(found: Sequence[TrainingConfig], origin: str | None) -> Iterator[Problem]:
    first: dict[TrainingConfig, int] = {}
    for number, config in enumerate(found, start=1):
        if config in first:
            yield Problem("sweep", f"trials {first[config]} and {number} are the same" + suffix(origin))
        first.setdefault(config, number)
