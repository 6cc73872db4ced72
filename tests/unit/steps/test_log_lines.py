"""The log of every step tells its outcome, in lines that a terminal shows unbroken."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from mnist_ops.domain.images import FetchFailure
from mnist_ops.domain.outcome_lines import LONGEST_LINE
from mnist_ops.domain.outcomes import FailureBudget
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.run_summary import RunFailed, summary_lines
from tests.support.pipeline_in_memory import Pipeline, Trained, label_of, url_of

SIGNED = "https://images.example/signed.png?X-Amz-Signature=secret"


@dataclass
class Log:
    """The messages of each step.

    Attributes:
        handler: pytest's.
        messages: by step, in order.
    """

    caplog: pytest.LogCaptureFixture
    messages: dict[str, list[str]] = field(default_factory=dict)

    def of(self, step: str, call: Callable[[], object]) -> object:
        """Call a step, and keep its messages."""
        self.caplog.clear()
        with self.caplog.at_level(logging.INFO, "mnist_ops"):
            result = call()
        self.messages[step] = [record.getMessage() for record in self.caplog.records]
        return result

    @property
    def lines(self) -> list[str]:
        """All messages of all steps."""
        return [line for messages in self.messages.values() for line in messages]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """The log of a test; every line of it is short, and holds no secret."""
    log = Log(caplog)
    yield log
    assert [line for line in log.lines if len(line) > LONGEST_LINE or "\n" in line] == []
    assert "secret" not in "\n".join(log.lines)


def add_records(pipeline: Pipeline) -> None:
    """Add 5 digits, 5 images that are missing, 1 with a signed URL that is slow, and 1 that is no image."""
    for number in range(5):
        pipeline.add_digit(number, number)
        pipeline.add(f"missing-{number}")
    pipeline.add("signed", image_url=SIGNED)
    pipeline.images.images[SIGNED] = FetchFailure(SIGNED, Reason.TIMEOUT, "no answer in 30 s")
    pipeline.images.images[url_of("text")] = b"text"
    pipeline.add("text")


def classified(pipeline: Pipeline, log: Log, budget: FailureBudget) -> None:
    """Run the pipeline over all records, one part, with the log of each step."""
    manifest = str(log.of("snapshot", lambda: pipeline.snapshot(until=pipeline.at, limit=100)))
    (images,) = log.of("fetch", lambda: pipeline.fetch(manifest))  # type: ignore[misc]
    (shard,) = log.of("classify", lambda: pipeline.classify([images], review_below=1.0))  # type: ignore[misc]
    assessment = str(log.of("assess", lambda: pipeline.assess(manifest, [shard], budget)))
    outcomes = log.of("publish", lambda: pipeline.publish([shard], assessment))
    log.of("reconcile", lambda: pipeline.reconcile(manifest, outcomes))  # type: ignore[arg-type]


NOT_FOUND = [
    "not_found:",
    *(
        f'  "missing-{number}" https://images.example/missing-{number}.png: the server has no such image'
        for number in range(3)
    ),
]
TIMEOUT = ["timeout:", '  "signed" https://images.example/signed.png: no answer in 30 s']
WINDOW = "created until 2026-01-31T12:00:00Z; reclassify never; limit 100"


def test_the_last_lines_of_each_step_tell_its_outcome(pipeline: Pipeline, log: Log) -> None:
    """Counts, window, champion, labels, and failures by reason with three records each."""
    add_records(pipeline)
    classified(pipeline, log, FailureBudget(minimum_records=100))
    labels = sorted(pipeline.records.document(number)["prediction"]["label"] for number in range(5))
    assert log.messages["snapshot"][-3:] == ["12 records in 1 part", WINDOW, "champion lenet5 1"]
    assert log.messages["fetch"][2:] == [
        "12 records, 6 images",
        "6 failed: 5 not_found, 1 timeout",
        *NOT_FOUND,
        *TIMEOUT,
    ]
    failed = [
        "7 failed: 5 not_found, 1 not_an_image, 1 timeout",
        *NOT_FOUND,
        "not_an_image:",
        '  "text" https://images.example/text.png',
        "    the first bytes are not those of an accepted image; accepted formats: PNG, JPEG, GIF, BMP,",
        "    WEBP, TIFF",
        *TIMEOUT,
    ]
    assert log.messages["classify"][-len(failed) :] == failed
    assert log.messages["classify"][2] == "12 records, 5 predictions"
    assert log.messages["assess"][2:] == ["12 records, 5 predictions", *failed]
    review = "needs review: 5 of 5 predictions"
    for step in ("publish", "reconcile"):
        lines = log.messages[step][2:]
        assert lines[0] == "12 records: 6 quarantined, 5 predicted, 1 retry_later"
        assert review in lines
        assert lines[-len(failed) :] == failed
        (counted,) = (line for line in lines if line.startswith("labels: "))
        assert all(label in counted for label in labels)
    assert log.messages["reconcile"][3:5] == [WINDOW, "champion lenet5 1"]


def test_a_run_of_no_records_says_so_at_its_beginning_and_end(pipeline: Pipeline, log: Log) -> None:
    """With the window that had none."""
    manifest = str(log.of("snapshot", pipeline.snapshot))
    log.of("reconcile", lambda: pipeline.reconcile(manifest, []))
    for step in log.messages:
        assert log.messages[step][-2:] == [
            "0 records: none was waiting",
            "created at any time; reclassify never",
        ]


def test_the_message_of_a_held_run_is_short_lines_too(pipeline: Pipeline, log: Log) -> None:
    """Its reason first; the counts are in the log before it."""
    add_records(pipeline)
    with pytest.raises(RunFailed) as raised:
        classified(pipeline, log, FailureBudget(minimum_records=1))
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("7 of 12 records failed (5 not_found")
    assert [line for line in lines if len(line) > LONGEST_LINE] == []
    assert summary_lines(raised.value.ledger)[: len(lines)] == lines


def test_a_second_attempt_of_a_snapshot_names_the_first_ones_manifest(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    """The URI is long, so it is on a line of its own."""
    manifest = pipeline.snapshot()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        pipeline.snapshot()
    assert [record.getMessage() for record in caplog.records] == [
        "this generation has its snapshot already:",
        manifest,
    ]


def test_a_data_set_is_counted_by_fold_and_label_with_examples_of_what_is_quarantined(
    pipeline: Pipeline, log: Log
) -> None:
    """A label that is not in the table is a person's to correct: the record is named."""
    for number in range(250):
        pipeline.add_digit(number, number, label=label_of(number))
    pipeline.add_digit("odd", 250, label="eleven")
    manifest = pipeline.snapshot("train/run", labelled=True)
    images = pipeline.fetch(manifest)
    log.of("build_dataset", lambda: pipeline.steps().build_dataset(manifest, images))
    lines = log.messages["build_dataset"]
    assert any(line.startswith("250 examples: ") and "train" in line for line in lines)
    assert any(line.startswith("labels: ") for line in lines)
    assert lines[-4:-1] == [
        "1 failed: 1 unknown_label",
        "unknown_label:",
        '  "odd" https://images.example/odd.png',
    ]
    assert lines[-1].startswith("    label 'eleven': none of zero, one")


def test_evaluation_release_and_promotion_log_accuracy_and_the_gates_decision(
    trained: Trained, log: Log
) -> None:
    """In short lines, though the decision has many numbers."""
    pipeline = trained.pipeline.copy()
    evaluation = str(log.of("evaluate", lambda: pipeline.evaluate(trained.training)))
    candidate = log.of("release", lambda: pipeline.release(evaluation))
    log.of("promote", lambda: pipeline.steps().promote(candidate, who="the tests"))  # type: ignore[arg-type]
    log.of("evaluate again", lambda: pipeline.evaluate(trained.training))
    assert log.messages["evaluate"][0].startswith("evaluate: ")
    assert log.messages["evaluate"][2].startswith("test accuracy 0.")
    assert log.messages["evaluate"][2].endswith(", no champion")
    assert log.messages["release"][0].startswith("lenet5 1: good enough as the first champion: accuracy 0.")
    assert log.messages["promote"][0].startswith("lenet5 1 is the champion: good enough")
    assert ", champion lenet5 1: 0." in log.messages["evaluate again"][2]
