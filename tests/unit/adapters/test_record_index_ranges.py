"""The ranges of creation times in which the index of records counts."""

from datetime import UTC, datetime, timedelta

from mnist_ops.adapters.mongo.ranges import BEFORE_ANY, earlier


def test_the_last_range_begins_with_the_first_date_at_every_moment_of_a_second() -> None:
    """Seconds since the year 1 are no exact float: half of the moments would begin before any date."""
    second = datetime(2026, 11, 28, 17, 15, 3, tzinfo=UTC)
    for milliseconds in range(1_000):
        at = second + timedelta(milliseconds=milliseconds)
        assert earlier(at, (at - BEFORE_ANY).total_seconds()) == BEFORE_ANY
        assert earlier(at, 600.0) == at - timedelta(minutes=10)
