"""The counts of a preview end together within a time."""

import itertools

import pytest

from mnist_ops.domain.errors import Transient, UsageError
from mnist_ops.domain.selection import Selection
from mnist_ops.pipeline import utc_now
from mnist_ops.steps.preview_backfill import counting_within

WINDOW = Selection(at=utc_now())


def test_each_count_gets_the_seconds_that_are_left() -> None:
    """So that no window holds the database for longer than all may take."""
    given, clock = [], itertools.count(0, 4)

    def count(_: Selection, limit_s: float) -> int:
        given.append(limit_s)
        return 7

    within = counting_within(count, 10, lambda: float(next(clock)))
    assert [within(WINDOW), within(WINDOW)] == [7, 7]
    assert given == [6, 2]
    with pytest.raises(UsageError, match="2 windows were counted in 10 s, and there are more"):
        within(WINDOW)


@pytest.mark.parametrize(("ended_at", "error"), [(9.0, Transient), (10.0, UsageError)])
def test_a_count_that_takes_too_long_says_what_to_do(ended_at: float, error: type[Exception]) -> None:
    """And one that fails before says why it failed."""

    def count(_: Selection, limit_s: float) -> int:
        raise Transient(f"MongoDB did not answer within {limit_s} s")

    times = iter((0.0, 0.0, ended_at))
    with pytest.raises(error):
        counting_within(count, 10, lambda: next(times))(WINDOW)
