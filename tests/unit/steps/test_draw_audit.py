"""A random sample of published predictions, out of the shards of runs."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ops.domain.drawn_audits import DrawnAudit
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.selection import Reclassify
from mnist_ops.steps import draw_audit
from mnist_ops.steps.artifacts.shard_kinds import PREDICTIONS
from mnist_ops.steps.draw_audit import AuditRequest
from tests.support.pipeline_in_memory import shard_rows
from tests.support.reviewed_runs import RUN, ReviewedRuns, number_id
from tests.support.small_runs import Seven

LATER = Generation("classify_records/later")


@pytest.fixture
def reviewed() -> ReviewedRuns:
    """Twelve records in three parts, two of them without an image."""
    runs = ReviewedRuns()
    runs.runs.records.insert(*(runs.runs.document(number) for number in range(12)))
    for number in (3, 7):
        runs.runs.images.images.pop(f"https://images.example/{number}.png")
    runs.run()
    return runs


def drawn(reviewed: ReviewedRuns, **request: object) -> DrawnAudit:
    """Draw an audit of everything that there is."""
    return reviewed.steps.draw_audit(AuditRequest("ada", **{"size": 100, "strata": "none", **request}))


def test_only_published_predictions_are_drawn(reviewed: ReviewedRuns) -> None:
    """A failed record has none, and every other one is drawn once where there are no more."""
    audit = drawn(reviewed)
    expected = [number_id(number) for number in range(12) if number not in (3, 7)]
    assert sorted(each.record for each in audit.sample) == sorted(expected)
    assert audit.records == {"all": 10}
    assert audit.runs == (RUN,)
    assert reviewed.steps.adapters.audits.get(audit.id) == audit


def test_a_drawn_prediction_is_that_of_its_shard(reviewed: ReviewedRuns) -> None:
    """Its label and confidence at that time, and the image that it is of."""
    objects = reviewed.runs.objects
    uris = [objects.uri(key) for key in objects.keys("predictions/")]
    rows = {row["record_id"]: row for uri in uris for row in shard_rows(objects, PREDICTIONS, uri)}
    for each in drawn(reviewed).sample:
        row = rows[each.record]
        assert (each.url, each.sha256, each.confidence) == (row["url"], row["sha256"], row["confidence"])
        assert (each.label, each.generation, each.stratum, each.answer) == ("seven", RUN, "all", None)


def test_a_seed_draws_the_same_sample_again_and_another_seed_another(reviewed: ReviewedRuns) -> None:
    """In the same order."""
    first, again, other = (drawn(reviewed, size=5, seed=seed).sample for seed in (1, 1, 2))
    assert first == again
    assert len(first) == 5
    assert first != other


def test_predictions_of_one_run_or_of_the_runs_since_a_time_are_drawn_from(reviewed: ReviewedRuns) -> None:
    """By when a run finished."""
    finished = reviewed.runs.runs.ledger(RUN)["finished_at"]
    reviewed.run(range(20, 23), LATER)
    later = sorted(number_id(number) for number in range(20, 23))
    for request in ({"run": LATER}, {"since": finished + timedelta(microseconds=1)}):
        assert sorted(each.record for each in drawn(reviewed, **request).sample) == later
    assert drawn(reviewed, since=finished).runs == (RUN, LATER)
    assert len(drawn(reviewed).sample) == 13


def test_of_a_run_that_was_cleared_the_newest_generation_counts(reviewed: ReviewedRuns) -> None:
    """Its records were predicted again."""
    again = Generation(RUN.run, 1)
    reviewed.run((), again, reclassify=Reclassify.ALL)
    assert drawn(reviewed).runs == (again,)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"size": 0}, "choose 1 to 1,000"),
        ({"size": 1_001}, "choose 1 to 1,000"),
        ({"strata": "colour"}, "choose one of confidence"),
        ({"run": LATER}, "no finished run of this key"),
        ({"most": 9}, "published more than 9 predictions"),
    ],
)
def test_an_impossible_draw_is_refused(
    reviewed: ReviewedRuns, request_: dict[str, object], message: str
) -> None:
    """The message says what is possible, and nothing is stored."""
    with pytest.raises(UsageError, match=message):
        drawn(reviewed, **request_)
    assert reviewed.steps.adapters.audits.newest(1) == []


def test_a_draw_of_too_many_predictions_reads_no_further_ledger(
    reviewed: ReviewedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be many thousands of them."""
    reviewed.run(range(20, 23), LATER)
    monkeypatch.setattr(draw_audit, "_LEDGERS_AT_ONCE", 1)
    read, newest_ledgers = [], reviewed.runs.runs.newest_ledgers

    def counted(*arguments: object) -> object:
        read.append(arguments)
        return newest_ledgers(*arguments)

    monkeypatch.setattr(reviewed.runs.runs, "newest_ledgers", counted)
    with pytest.raises(UsageError, match="more than 2"):
        drawn(reviewed, most=2)
    assert len(read) == 1


def test_without_a_published_prediction_nothing_is_drawn() -> None:
    """Before the first run."""
    with pytest.raises(UsageError, match="no prediction was published"):
        drawn(ReviewedRuns())


class SevenAndNine(Seven):
    """A model that takes every second picture for a nine."""

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Certainty, N times."""
        return np.eye(10, dtype=np.float32)[[(7, 9)[row % 2] for row in range(len(images))]]


def test_each_stratum_has_its_predictions_and_its_share_of_the_sample(reviewed: ReviewedRuns) -> None:
    """A sample with fewer labels than strata is refused: a stratum that nobody looked at has no estimate."""
    steps = reviewed.steps
    two = replace(steps.adapters, load=lambda folder, digest: SevenAndNine())  # noqa: ARG005
    reviewed.steps = replace(steps, adapters=two)
    reviewed.run(range(20, 28), LATER)
    audit = drawn(reviewed, run=LATER, strata="label", size=4)
    assert audit.records == {"class 7": 4, "class 9": 4}
    assert sorted((each.stratum, each.label) for each in audit.sample) == [
        *[("class 7", "seven")] * 2,
        *[("class 9", "nine")] * 2,
    ]
    with pytest.raises(UsageError, match="draw a larger sample, or use fewer strata"):
        drawn(reviewed, run=LATER, strata="label", size=1)
