"""What garbage collection may delete, by name, age and references."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.keys import Generation, manifest_key, part_key, run_key, shard_key
from mnist_ops.domain.retention import (
    Disposition,
    Owner,
    References,
    Retention,
    StoredObject,
    decide,
    owner_of,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULE = Retention(older_than=timedelta(days=30), grace=timedelta(days=90))
DIGEST = "a" * 64
RUN = Generation("dag/run", 2)
SHARD = shard_key("images", RUN, 3, DIGEST)


def decided(key: str, days: float, references: References | None = None) -> Disposition:
    """The decision on an object that is this many days old."""
    entry = StoredObject(key, 1, NOW - timedelta(days=days))
    return decide(entry, references or References(), RULE, NOW)


def ledger_written(days_ago: float) -> References:
    """A ledger of the generation that names nothing."""
    return References(finished_at={Owner(RUN.run, RUN.number): NOW - timedelta(days=days_ago)})


@given(st.text(min_size=1), st.text(min_size=1), st.integers(0, 9), st.integers(0, 10**6))
def test_objects_of_our_steps_are_known_by_their_keys(dag: str, run: str, number: int, part: int) -> None:
    """With every DAG and run id that Airflow allows."""
    generation = Generation(run_key(dag, run), number)
    assert owner_of(shard_key("outcomes", generation, part, DIGEST)) == Owner(generation.run, number)
    assert owner_of(part_key(generation, "attempt", part)) == Owner(generation.run, None)
    assert owner_of(manifest_key(generation, "attempt", DIGEST)) == Owner(generation.run, None)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "images",
        "images/dag/run/0/part-00000-short.parquet",
        f"images/dag/run/x/part-00000-{DIGEST}.parquet",
        f"images/dag/run/0/sub/part-00000-{DIGEST}.parquet",
        f"other/images/dag/run/0/part-00000-{DIGEST}.parquet",
        f"{SHARD}.bak",
        f"{SHARD}\n",
        f"datasets/dag/run/0/dataset-{DIGEST}.json",
        f"trainings/dag/run/0/training-{DIGEST}.json",
        f"models/lenet5/000001-{DIGEST}/card.json",
    ],
)
def test_an_object_with_another_key_is_foreign_at_any_age(key: str) -> None:
    """So are data sets, trainings and models, which stay for ever."""
    assert decided(key, 4000) is Disposition.FOREIGN


@pytest.mark.parametrize(
    ("age", "ledger_age", "expected"),
    [
        (29, 10, Disposition.YOUNG),
        (31, 10, Disposition.GARBAGE),
        (31, 32, Disposition.UNFINISHED_RUN),
        (89, None, Disposition.UNFINISHED_RUN),
        (91, None, Disposition.GARBAGE),
        (91, 92, Disposition.GARBAGE),
    ],
)
def test_garbage_is_decided_by_its_age_and_the_age_of_its_ledger(
    age: float, ledger_age: float | None, expected: Disposition
) -> None:
    """After thirty days where a later ledger does not name it, after ninety where there is none."""
    references = References() if ledger_age is None else ledger_written(ledger_age)
    assert decided(SHARD, age, references) is expected


def test_the_ledger_of_another_generation_does_not_count() -> None:
    """Each generation has its own shards."""
    other = shard_key("images", Generation(RUN.run, 1), 3, DIGEST)
    assert decided(other, 31, ledger_written(10)) is Disposition.UNFINISHED_RUN


def test_what_is_referred_to_stays_at_any_age() -> None:
    """By its own name, or by its folder's."""
    assert decided(SHARD, 4000, References(keys={SHARD})) is Disposition.REFERENCED
    assert decided(SHARD, 4000, References(folders={f"images/{RUN.id}/"})) is Disposition.REFERENCED
    assert decided(SHARD, 4000, References(folders={"images/dag/run/20/"})) is Disposition.GARBAGE
