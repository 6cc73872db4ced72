"""Runs for records that arrive, one after another in one process."""

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli._support.arrivals import ArrivalRuns
from mnist_ops.cli._support.whole_runs import OpenTools
from mnist_ops.domain.arrivals import Cause, Wake
from mnist_ops.domain.errors import Permanent
from mnist_ops.pipeline import Pipeline
from mnist_ops.steps.artifacts.bundles import BundleCache, Classifier
from tests.support.small_runs import Seven, SmallRuns

CHANGED, DUE = Wake(Cause.CHANGED, 1), Wake(Cause.DUE, 0)


class Loads:
    """Counts how often a bundle is loaded."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path, digest: str) -> Classifier:
        self.count += 1
        return Seven()


@pytest.fixture
def small() -> SmallRuns:
    """A small deployment with a champion, and no record."""
    return SmallRuns(InMemoryObjects(), InMemoryRecords())


def runs_over(small: SmallRuns, **settings: object) -> tuple[ArrivalRuns, Pipeline]:
    """Runs over a deployment, and its steps."""
    steps = small.steps(**settings)
    return ArrivalRuns(steps, OpenTools(small.images, BundleCache())), steps


def later(steps: Pipeline, minutes: int) -> Pipeline:
    """The same steps, by a clock that is ahead."""
    return Pipeline(steps.adapters, now=lambda: steps.now() + timedelta(minutes=minutes))


def test_a_record_that_arrived_is_labelled(small, caplog) -> None:
    """By a whole run, with a ledger; one line of the log tells of it."""
    caplog.set_level(logging.INFO, "mnist_ops.cli")
    small.records.insert(small.document(1))
    runs, steps = runs_over(small)
    runs.label(CHANGED)
    [ledger] = steps.adapters.runs.ledgers("cli/")
    assert small.records.document(1)["prediction"]["run"] == ledger["run"]
    assert f"{ledger['run']}, records changed: 1 predicted in" in caplog.text


def test_without_a_waiting_record_there_is_no_run(small) -> None:
    """A change may make no record wait, and a token is used twice after a crash."""
    small.records.insert(small.document(1, label="two"))
    runs, steps = runs_over(small)
    runs.label(CHANGED)
    assert list(steps.adapters.runs.commits()) == []


def test_the_bundle_is_loaded_once(small, monkeypatch) -> None:
    """The second run finds it in memory."""
    runs, steps = runs_over(small)
    loads = Loads()
    monkeypatch.setattr(type(steps.adapters), "load_classifier", lambda _, *given: loads(*given))
    runs.warm_up()
    for number in (1, 2):
        small.records.insert(small.document(number))
        runs.label(CHANGED)
    assert loads.count == 1
    assert {document["prediction"]["label"] for document in small.records.documents()} == {"seven"}


def test_the_records_of_a_red_run_are_no_reason_for_another(small, caplog) -> None:
    """They wait on, and would else be fetched every minute."""
    small.records.insert(*(small.document(number) for number in range(3)))
    small.images.images.popitem()
    runs, steps = runs_over(small, failure_budget=0.0, failure_budget_from=1)
    runs.label(CHANGED)
    steps.adapters.runs.put_ledger(replace(runs._held, held_because=None))
    runs.label(DUE)
    assert len(list(steps.adapters.runs.commits())) == 1
    assert "budget" in caplog.text
    small.records.insert(small.document(3))
    runs.label(DUE)
    assert len(list(steps.adapters.runs.commits())) == 2


def test_records_that_arrive_after_a_held_run_wait_for_15_minutes(small) -> None:
    """Each run fetches and classifies the held ones again; afterwards a look for due records finds all."""
    small.records.insert(*(small.document(number) for number in range(3)))
    small.images.images.popitem()
    runs, steps = runs_over(small, failure_budget=0.0, failure_budget_from=1)
    runs.label(CHANGED)
    runs.label(CHANGED)
    assert len(list(steps.adapters.runs.commits())) == 1
    runs.steps = later(steps, minutes=15)
    runs.label(DUE)
    assert len(list(steps.adapters.runs.commits())) == 2


def test_a_released_run_holds_up_no_other(small) -> None:
    """Its records have their predictions."""
    small.records.insert(*(small.document(number) for number in range(3)))
    small.images.images.popitem()
    runs, steps = runs_over(small, failure_budget=0.0, failure_budget_from=1)
    runs.label(CHANGED)
    steps.adapters.runs.put_ledger(replace(runs._held, held_because=None))
    small.records.insert(small.document(4))
    runs.label(CHANGED)
    assert len(list(steps.adapters.runs.commits())) == 2


def test_a_run_that_cannot_be_finished_says_so(small) -> None:
    """The watch tries it again: its records still wait."""
    small.records.insert(small.document(1))
    small.models = type(small.models)()
    runs, _ = runs_over(small)
    with pytest.raises(Permanent, match="run train_lenet first"):
        runs.label(CHANGED)
