"""A sweep: every combination of some hyperparameters' values is a trial."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from mnist_ops.vision.config.errors import (
    FIELDS,
    Problem,
    config_of,
    from_where,
    not_allowed,
    problems_of,
    refusal,
    unknown,
)
from mnist_ops.vision.config.schema import TrainingConfig

MAX_TRIALS = 64


def trials(
    config: Mapping[str, object],
    grid: Mapping[str, Sequence[object]],
    origins: Mapping[str, str] | None = None,
) -> tuple[TrainingConfig, ...]:
    """The trials of a grid: the cartesian product of its lists, the values of the last changing fastest.

    Args:
        config: the values that all trials share, by field.
        grid: the values to try, by field; of a field that the config has too, these are taken. Without
            any, the config is the one trial.
        origins: where the values were written, by field; `sweep.<field>` for those of the grid.

    Raises:
        ValidationError: with a sentence a problem. A list is empty, a field is unknown, a value is not
            allowed, two trials are the same, or there are more than 64.
    """
    origins = origins or {}
    _refuse([*_problems_of_grid(grid, origins)])
    if (count := math.prod(map(len, grid.values()))) > MAX_TRIALS:
        raise refusal([Problem("sweep", f"{count} trials are not allowed: at most {MAX_TRIALS}")])
    of_field = dict(origins) | {field: origins.get(f"sweep.{field}") for field in grid}
    written = {field: origin for field, origin in of_field.items() if origin is not None}
    found: list[TrainingConfig] = []
    problems: list[Problem] = []
    for chosen in itertools.product(*grid.values()):
        try:
            found.append(config_of({**config, **dict(zip(grid, chosen, strict=True))}, written))
        except ValidationError as error:
            problems += problems_of(error)
    _refuse(_of_grid(problems, grid))
    _refuse([*_repeated(found, grid, origins)])
    return tuple(found)


def differences(configs: Sequence[TrainingConfig]) -> list[dict[str, object]]:
    """For each of some configs the values, as JSON has them, of the fields in which any two differ."""
    values = [config.model_dump(mode="json") for config in configs]
    fields = [field for field in FIELDS if any(other[field] != values[0][field] for other in values)]
    return [{field: of_one[field] for field in fields} for of_one in values]


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise refusal(problems)


def _problems_of_grid(grid: Mapping[str, Sequence[object]], origins: Mapping[str, str]) -> Iterator[Problem]:
    for field, values in grid.items():
        name = f"sweep.{field}"
        origin = from_where(origins.get(name))
        if field not in FIELDS:
            yield Problem(name, unknown(field) + origin)
        elif not isinstance(values, list | tuple) or not values:
            yield Problem(name, not_allowed(values, "a list of at least one value") + origin)


def _of_grid(problems: Sequence[Problem], grid: Mapping[str, object]) -> list[Problem]:
    """Each problem once, however many trials have it, under the name that it has in the file."""
    once = dict.fromkeys(problems)
    return [Problem(f"sweep.{one.field}" if one.field in grid else one.field, one.sentence) for one in once]


def _repeated(
    found: Sequence[TrainingConfig], grid: Mapping[str, object], origins: Mapping[str, str]
) -> Iterator[Problem]:
    first: dict[TrainingConfig, int] = {}
    for number, config in enumerate(found, start=1):
        if config in first:
            origin = next((origins[f"sweep.{field}"] for field in grid if f"sweep.{field}" in origins), None)
            yield Problem("sweep", f"trials {first[config]} and {number} are the same" + from_where(origin))
        first.setdefault(config, number)
