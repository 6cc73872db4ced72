"""The values that trackers record, and the port itself."""

import logging
import math
from collections import deque
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.adapters.memory.tracker import InMemoryTracker
from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.training.tracking import (
    Experiment,
    Outcome,
    QueueSummary,
    Status,
    Trackers,
    config_digest,
    experiment_name,
)

AT = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
EXPERIMENT = Experiment("lenet5-one", AT, {"epochs": 2}, "sha256:" + "a" * 64, "cpu")


def test_a_queue_of_all_values_has_their_mean_and_deviation() -> None:
    """Compared with numbers calculated by hand."""
    summary = QueueSummary.of([1.0, 2.0, 6.0])
    assert (summary.count, summary.mean, summary.min, summary.max) == (3, 3.0, 1.0, 6.0)
    assert summary.std == pytest.approx(math.sqrt(14 / 3))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(1, 10))
def test_a_summary_has_the_statistics_of_the_last_values(values: list[float], length: int) -> None:
    """Compared with numpy."""
    last = np.array(values[-length:])
    summary = QueueSummary.of(deque(values, length))
    assert summary.count == len(last)
    assert (summary.min, summary.max) == (last.min(), last.max())
    assert summary.mean == pytest.approx(last.mean(), abs=1e-6)
    assert summary.std == pytest.approx(last.std(), abs=1e-3)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e300])
def test_a_loss_that_overflows_raises_nothing(value: float) -> None:
    """The trainer checks the loss and tells people what to change."""
    assert QueueSummary.of([1.0, value]).count == 2


def test_an_empty_queue_has_no_summary() -> None:
    """Its mean is undefined."""
    with pytest.raises(ValueError, match="empty"):
        QueueSummary.of([])


def test_a_summary_becomes_scalars_under_its_tag() -> None:
    """Their tags differ from that of the metric itself."""
    assert QueueSummary.of([2.0]).scalars("train/loss") == {
        "queues/train/loss/mean": 2.0,
        "queues/train/loss/std": 0.0,
        "queues/train/loss/min": 2.0,
        "queues/train/loss/max": 2.0,
    }


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "a" * 129, "ä"])
def test_a_name_that_cannot_name_a_folder_is_refused(name: str) -> None:
    """TensorBoard's writer creates a folder with it."""
    with pytest.raises(Permanent, match="experiment"):
        Experiment(name, AT, {}, "sha256:0", "cpu")


def test_a_start_without_a_time_zone_is_refused() -> None:
    """Lists are sorted by the start."""
    with pytest.raises(Permanent, match="time zone"):
        Experiment("one", datetime(2026, 1, 1), {}, "sha256:0", "cpu")  # noqa: DTZ001 - the value under test


def test_the_digest_of_a_config_does_not_depend_on_the_order_of_its_fields() -> None:
    """Only on their names and values."""
    assert config_digest({"a": 1, "b": [2, 3]}) == config_digest({"b": [2, 3], "a": 1})
    assert config_digest({"a": 1}) != config_digest({"a": 2})


def test_a_name_depends_on_network_data_and_config() -> None:
    """And on nothing else, so that a killed training resumes under its name."""
    names = {
        experiment_name(network, dataset, config)
        for network in ("lenet5", "mnistnet")
        for dataset in ("s3://one", "s3://two")
        for config in ({"seed": 0}, {"seed": 1})
    }
    assert len(names) == 8
    assert experiment_name("lenet5", "s3://one", {"seed": 0}) in names


def test_every_tracker_gets_the_same_calls() -> None:
    """In the same order."""
    one, two = InMemoryTracker(), InMemoryTracker()
    trackers = Trackers([one, two])
    trackers.begin(EXPERIMENT)
    trackers.scalars(1, {"train/loss": 0.5})
    trackers.finish(Outcome(Status.FINISHED, AT, 1))
    assert one.logged_scalars == two.logged_scalars == [(1, "train/loss", 0.5)]
    assert one.outcomes == two.outcomes


def test_a_tracker_that_fails_is_dropped_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk loses the record of a training, not the training."""
    failing, working = InMemoryTracker(fails_at=2), InMemoryTracker()
    trackers = Trackers([failing, working])
    trackers.begin(EXPERIMENT)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            trackers.scalars(step, {"train/loss": 0.5})
    trackers.finish(Outcome(Status.FINISHED, AT, 1))
    assert [step for step, _, _ in working.logged_scalars] == [1, 2, 3]
    assert [step for step, _, _ in failing.logged_scalars] == [1]
    assert not failing.outcomes
    assert [record.getMessage() for record in caplog.records] == [
        "tracker in memory is dropped, the training continues: No space left on device"
    ]


def test_an_error_other_than_transient_is_not_hidden() -> None:
    """A mistake in the code must be visible."""
    with pytest.raises(Permanent, match="no experiment has begun"):
        Trackers([InMemoryTracker()]).scalars(1, {"train/loss": 0.5})
