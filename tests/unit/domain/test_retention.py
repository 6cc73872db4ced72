"""What may be swept, by name, age and references."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.keys import Generation, manifest_key, part_key, run_key, shard_key
from mnist_ops.domain.retention import (
    Owner,
    References,
    Retention,
    StoredObject,
    Verdict,
    judge,
    owner_of,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULE = Retention(older_than=timedelta(days=30), grace=timedelta(days=90))
DIGEST = "a" * 64
RUN = Generation("dag/run", 2)
SHARD = shard_key("images", RUN, 3, DIGEST)


def judged(key: str, days: float, references: References | None = None) -> Verdict:
    """The verdict on an object that is so many days old."""
    entry = StoredObject(key, 1, NOW - timedelta(days=days))
    return judge(entry, references or References(), RULE, NOW)


def settled(days_ago: float) -> References:
    """A ledger of the generation that names nothing."""
    return References(settled={Owner(RUN.run, RUN.number): NOW - timedelta(days=days_ago)})


@given(st.text(min_size=1), st.text(min_size=1), st.integers(0, 9), st.integers(0, 10**6))
def test_what_our_steps_write_is_known_by_its_name(dag: str, run: str, number: int, part: int) -> None:
    """Whatever Airflow calls its runs."""
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
def test_what_has_another_name_is_not_ours_however_old(key: str) -> None:
    """Data sets, trainings and models are ours, and stay for ever."""
    assert judged(key, 4000) is Verdict.FOREIGN


@pytest.mark.parametrize(
    ("age", "ledger_age", "verdict"),
    [
        (29, 10, Verdict.YOUNG),
        (31, 10, Verdict.DEBRIS),
        (31, 32, Verdict.UNSETTLED),
        (89, None, Verdict.UNSETTLED),
        (91, None, Verdict.DEBRIS),
        (91, 92, Verdict.DEBRIS),
    ],
)
def test_debris_is_judged_by_its_age_and_its_ledgers(
    age: float, ledger_age: float | None, verdict: Verdict
) -> None:
    """Thirty days where a later ledger does not name it, ninety where none does."""
    references = References() if ledger_age is None else settled(ledger_age)
    assert judged(SHARD, age, references) is verdict


def test_the_ledger_of_another_generation_says_nothing() -> None:
    """Each generation has its own shards."""
    other = shard_key("images", Generation(RUN.run, 1), 3, DIGEST)
    assert judged(other, 31, settled(10)) is Verdict.UNSETTLED


def test_what_is_referred_to_stays_whatever_its_age() -> None:
    """By its own name, or by its folder's."""
    assert judged(SHARD, 4000, References(keys={SHARD})) is Verdict.REFERENCED
    assert judged(SHARD, 4000, References(folders={f"images/{RUN.id}/"})) is Verdict.REFERENCED
    assert judged(SHARD, 4000, References(folders={"images/dag/run/20/"})) is Verdict.DEBRIS
