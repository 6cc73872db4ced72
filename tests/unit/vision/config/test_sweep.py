"""A grid becomes trials: all combinations, in order, no two equal, at most 64."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.config.sweep import MAX_TRIALS, differences, trials


def test_a_grid_is_the_product_of_its_lists_in_the_order_written() -> None:
    """The values of the last field change fastest."""
    grid = {"seed": [2, 1], "network": ["mnistnet", "lenet5"]}
    assert [(trial.seed, trial.network) for trial in trials({"epochs": 3}, grid)] == [
        (2, "mnistnet"), (2, "lenet5"), (1, "mnistnet"), (1, "lenet5")
    ]  # fmt: skip


@given(st.lists(st.integers(1, 4), max_size=3))
def test_there_are_as_many_trials_as_combinations(sizes: list[int]) -> None:
    """No two of them are equal."""
    fields = ("seed", "epochs", "batch_size")
    grid = {field: [*range(1, size + 1)] for field, size in zip(fields, sizes, strict=False)}
    found = trials({}, grid)
    assert len(found) == len(set(found)) == math.prod(sizes)


def test_no_grid_is_one_trial() -> None:
    """The config is that trial."""
    assert trials({"epochs": 3}, {}) == (TrainingConfig(epochs=3),)


def test_the_grid_wins_over_the_config() -> None:
    """A swept field takes its values from the grid."""
    assert [trial.seed for trial in trials({"seed": 9}, {"seed": [1, 2]})] == [1, 2]


def test_only_the_trials_must_be_allowed_not_the_config_alone() -> None:
    """The default network has other kernel sizes; the network of the trial allows them."""
    (trial,) = trials({"kernel_sizes": [3, 5]}, {"network": ["conv20-50-500"]})
    assert trial.kernel_sizes == (3, 5)


def test_sixty_four_trials_are_allowed() -> None:
    """The limit is included."""
    assert len(trials({}, {"seed": [*range(MAX_TRIALS)]})) == MAX_TRIALS


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"seed": [*range(65)]}, "65 trials are not allowed: at most 64"),
        ({"seed": [*range(10**4)], "epochs": [*range(10**4)]}, "100000000 trials are not allowed"),
        ({"seed": [1, 2, 1]}, "trials 1 and 3 are the same"),
        ({"rotate": [1, 1.0]}, "trials 1 and 2 are the same"),
        (
            {"seed": [], "epochs": []},
            r"(?s)sweep\.seed.*at least 1 item.*sweep\.epochs.*at least 1 item",
        ),
        ({"seed": "123"}, r"sweep\.seed\s+must be a valid list; got \"123\""),
        ({"batch": 3}, r"sweep\.batch\s+there is no such field; did you mean batch_size\?"),
        ({"epochs": [1, 0, -1]}, r"(?s)sweep\.epochs\s+must.*; got 0.*sweep\.epochs\s+must.*; got -1"),
    ],
)
def test_a_wrong_grid_is_refused(grid: dict[str, list[object]], words: str) -> None:
    """With the field's name, and before a huge grid is built."""
    with pytest.raises(ValidationError, match=words):
        trials({}, grid)


def test_a_wrong_value_of_the_config_is_reported_once() -> None:
    """Though all trials share it."""
    with pytest.raises(ValidationError) as caught:
        trials({"epochs": 0}, {"seed": [1, 2, 3]})
    assert [detail["loc"] for detail in caught.value.errors()] == [("epochs",)]


def test_differences_are_the_fields_in_which_any_two_differ() -> None:
    """The columns of a sweep's table."""
    configs = [TrainingConfig(seed=1), TrainingConfig(seed=1, optimizer="sgd"), TrainingConfig(seed=2)]
    assert differences(configs) == [
        {"optimizer": "adamw", "seed": 1},
        {"optimizer": "sgd", "seed": 1},
        {"optimizer": "adamw", "seed": 2},
    ]


def test_a_single_config_has_no_differences() -> None:
    """A table of one trial needs no column for them."""
    assert differences([TrainingConfig()]) == [{}]
