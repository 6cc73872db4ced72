"""Assess: a run that failed too often is held before anything of it is published."""

import logging
from dataclasses import replace

import pytest

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Assessment, FailureBudget
from mnist_ops.steps.assess import read_assessment
from tests.support.pipeline_in_memory import AT, Pipeline


def fill(pipeline: Pipeline, good: int, bad: int) -> None:
    """Add records, some without an image."""
    for number in range(good):
        pipeline.add_digit(f"good-{number}", number)
    for number in range(bad):
        pipeline.add(f"bad-{number}")


def assessed(pipeline: Pipeline, budget: FailureBudget | None = None, **selection: object) -> Assessment:
    """Return the assessment of a run."""
    manifest = pipeline.snapshot(**selection)
    uri = pipeline.assess(manifest, pipeline.predictions_of(manifest), budget)
    return read_assessment(pipeline.objects, uri)


@pytest.mark.parametrize(
    ("good", "bad", "held"), [(40, 10, False), (39, 11, True), (0, 49, False), (38, 11, False)]
)
def test_more_than_a_fifth_of_fifty_or_more_holds_a_run(
    pipeline: Pipeline, good: int, bad: int, held: bool
) -> None:
    """Below fifty records a few failures mean little."""
    fill(pipeline, good, bad)
    assert (assessed(pipeline).held_because is not None) is held


def test_the_budget_is_over_all_parts_together(pipeline: Pipeline) -> None:
    """One part may be all failures."""
    fill(pipeline, 50, 10)
    result = assessed(pipeline, records_per_part=10)
    assert (result.records, result.failures, result.held_because) == (60, {"not_found": 10}, None)


def test_why_a_run_is_held_says_the_numbers_and_the_causes(pipeline: Pipeline) -> None:
    """The engineer on call reads one line."""
    fill(pipeline, 2, 2)
    pipeline.add("worse", image_url=None)
    because = assessed(pipeline, FailureBudget(0.5, 0)).held_because
    assert because == ("3 of 5 records failed (2 not_found, 1 invalid_url), more than the budget of 50%")


@pytest.mark.parametrize(("good", "held"), [(1, "1 predictions are held"), (0, "no prediction is held")])
def test_over_the_budget_a_warning_says_why_and_how_to_release_the_run(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture, good: int, held: str
) -> None:
    """In short lines, the reason first; the command has a line of its own."""
    fill(pipeline, good, 50)
    with caplog.at_level("INFO", "mnist_ops.steps.assess"):
        assessed(pipeline, run="classify_records/scheduled__2026-01-31T00%3A00%3A00%2B00%3A00")
    warnings = [
        record.getMessage()
        for record in caplog.records
        if record.name == "mnist_ops.steps.assess" and record.levelname == "WARNING"
    ]
    assert warnings[0].startswith(f"50 of {50 + good} records failed (50 not_found)")
    assert held in warnings[1]
    assert warnings[2].startswith("Fix the cause: later runs try again")
    assert warnings[-2].startswith("mnist-ops runs release-hold classify_records/scheduled__")
    assert max(map(len, warnings)) < 100


def test_within_the_budget_there_is_no_warning(pipeline: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    """Some failures are nothing that somebody must look at."""
    fill(pipeline, 45, 5)
    assessed(pipeline)
    ours = [record for record in caplog.records if record.name == "mnist_ops.steps.assess"]
    assert not [record for record in ours if record.levelno >= logging.WARNING]


def test_why_a_run_is_held_says_a_budget_that_is_no_whole_percent(pipeline: Pipeline) -> None:
    """Half a percent is not 0 %."""
    fill(pipeline, 1, 1)
    assert str(assessed(pipeline, FailureBudget(0.005, 0)).held_because).endswith("the budget of 0.5%")


def test_a_released_run_says_who_released_it(pipeline: Pipeline) -> None:
    """Assessing again after the release, as clearing the task does."""
    fill(pipeline, 0, 50)
    assert assessed(pipeline).released_by is None
    pipeline.runs.release_hold(Generation("dag/run"), "ada", "the server is gone for good", AT)
    result = assessed(pipeline)
    assert result.held_because is not None
    assert result.released_by == "ada"


def test_only_the_generation_that_was_released_is_released(pipeline: Pipeline) -> None:
    """The next selection may hold other failures."""
    fill(pipeline, 0, 50)
    assessed(pipeline)
    pipeline.runs.release_hold(Generation("dag/run"), "ada", "known", AT)
    assert assessed(pipeline, generation=1).released_by is None


def test_a_generation_that_was_never_taken_cannot_be_released(pipeline: Pipeline) -> None:
    """A mistyped run key is an error."""
    with pytest.raises(Permanent, match="dag/typo"):
        pipeline.runs.release_hold(Generation("dag/typo"), "ada", "known", AT)


def test_a_run_with_a_missing_part_cannot_be_assessed(pipeline: Pipeline) -> None:
    """The failures of a missing part are unknown."""
    fill(pipeline, 3, 0)
    manifest = pipeline.snapshot(records_per_part=1)
    shards = pipeline.predictions_of(manifest)
    with pytest.raises(Permanent, match="parts"):
        pipeline.assess(manifest, shards[:-1])
    with pytest.raises(Permanent, match="parts"):
        pipeline.assess(manifest, [*shards[:-1], shards[0]])


def test_the_order_of_the_shards_does_not_matter(pipeline: Pipeline) -> None:
    """The same failures give the same assessment; only its times differ."""
    fill(pipeline, 3, 1)
    manifest = pipeline.snapshot(records_per_part=1)
    shards = pipeline.predictions_of(manifest)
    one, other = (
        read_assessment(pipeline.objects, pipeline.assess(manifest, ordered))
        for ordered in (shards, shards[::-1])
    )
    assert replace(one, stage=None) == replace(other, stage=None)


def test_an_empty_run_is_not_held(pipeline: Pipeline) -> None:
    """Nothing failed."""
    assert assessed(pipeline).held_because is None


def test_shards_of_another_snapshot_are_refused(pipeline: Pipeline) -> None:
    """A run is not held for another run's failures."""
    fill(pipeline, 1, 0)
    mine, other = pipeline.snapshot("dag/mine"), pipeline.snapshot("dag/other")
    with pytest.raises(Permanent):
        pipeline.assess(mine, pipeline.predictions_of(other))


def test_a_damaged_prediction_shard_is_refused(pipeline: Pipeline) -> None:
    """Its failures cannot be trusted."""
    fill(pipeline, 1, 0)
    manifest = pipeline.snapshot()
    (shard,) = pipeline.predictions_of(manifest)
    pipeline.objects.objects[shard.removeprefix(pipeline.objects.uri(""))] += b"\0"
    with pytest.raises(Damaged, match="sha256"):
        pipeline.assess(manifest, [shard])


@pytest.mark.parametrize("kind", ["manifest", "shard"])
def test_what_is_no_assessment_is_damaged(pipeline: Pipeline, kind: str) -> None:
    """The URI may name any other object: the error is one of this library's."""
    fill(pipeline, 1, 0)
    manifest = pipeline.snapshot()
    (shard,) = pipeline.predictions_of(manifest)
    with pytest.raises(Damaged):
        read_assessment(pipeline.objects, manifest if kind == "manifest" else shard)
