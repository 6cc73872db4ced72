"""`mnist-ops runs classify` and `runs resume`, on in-memory stores."""

import io
import json
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from mnist_ops import pipeline as product
from mnist_ops import wiring
from mnist_ops.adapters.memory.images import InMemoryImages
from mnist_ops.cli import app
from mnist_ops.cli._support.endings import ending_of
from mnist_ops.cli._support.logs import StandardErrorHandler
from mnist_ops.cli._support.part_progress import part_bar
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.images import FetchOutcome, Validators
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.settings import Settings
from tests.support.doubles import Doubles
from tests.support.pipeline_in_memory import Pipeline, url_of


class Interrupting(InMemoryImages):
    """Images whose fetch is interrupted once, after a number of images."""

    left: int | None = None

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        """Yield one value for each URL, in order."""
        for outcome in super().fetch(urls, known):
            if self.left == 0:
                self.left = None
                raise ConnectionAbortedError
            self.left = None if self.left is None else self.left - 1
            yield outcome


@pytest.fixture
def images(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Interrupting:
    """The images of ten records in parts of four; the command line is connected to them."""
    for number in range(10):
        pipeline.add_digit(number, number)
    images = Interrupting(pipeline.images.images)
    monkeypatch.setenv("MNIST_OPS_RECORDS_PER_PART", "4")

    def adapters(settings: Settings, _: object) -> Doubles:
        return replace(pipeline.adapters(settings), fetcher=images)

    monkeypatch.setattr(wiring, "adapters_of_environment", adapters)
    return images


def mnist_ops(*words: str) -> Result:
    """Run the command line."""
    result = CliRunner().invoke(app, words)
    if result.exc_info is not None:
        # As at the end of a process: temporary folders are removed.
        traceback.clear_frames(result.exc_info[2])
    return result


def snapshot_of(result: Result) -> str:
    """The manifest that `runs classify` printed for `runs resume`."""
    line = next(line for line in result.stderr.splitlines() if "runs resume" in line)
    return line.rpartition(" ")[2]


def test_a_run_predicts_every_waiting_record(images: Interrupting, pipeline: Pipeline) -> None:
    """In parts, with one ledger; every image is fetched once."""
    result = mnist_ops("runs", "classify")
    assert result.exit_code == 0, result.output
    assert "10 predicted" in [line.removeprefix("outcomes").strip() for line in result.stdout.splitlines()]
    assert images.fetched == [url_of(number) for number in range(10)]
    assert all(document["prediction"] for document in pipeline.records.documents())


@pytest.mark.parametrize("fetched", [0, 5, 9])
def test_a_resumed_run_does_only_what_is_missing(
    images: Interrupting, pipeline: Pipeline, fetched: int
) -> None:
    """Parts that were classified are neither fetched nor classified again."""
    images.left = fetched
    interrupted = mnist_ops("runs", "classify")
    assert interrupted.exit_code != 0
    done = fetched // 4 * 4
    before = list(pipeline.objects.keys("predictions/"))
    assert len(before) == done // 4
    images.fetched.clear()
    result = mnist_ops("runs", "resume", snapshot_of(interrupted), "--json")
    assert result.exit_code == 0, result.output
    assert images.fetched == [url_of(number) for number in range(done, 10)]
    assert json.loads(result.stdout)["outcomes"]["predicted"] == 10
    assert set(before) < set(pipeline.objects.keys("predictions/"))


def test_a_resumed_run_does_not_fetch_a_stored_image_shard_again(
    images: Interrupting, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image shard of a part is stored, its prediction shard is not."""

    def killed(*_: object, **__: object) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as patch:
        patch.setattr("mnist_ops.steps.classify.classify", killed)
        interrupted = mnist_ops("runs", "classify")
    assert list(pipeline.objects.keys("images/"))
    images.fetched.clear()
    result = mnist_ops("runs", "resume", snapshot_of(interrupted), "--json")
    assert images.fetched == [url_of(number) for number in range(4, 10)]
    assert json.loads(result.stdout)["outcomes"]["predicted"] == 10


def test_a_run_without_publishing_is_resumed_without_publishing(
    images: Interrupting, pipeline: Pipeline
) -> None:
    """The printed command has the option; without the option the predictions are written."""
    images.left = 5
    interrupted = mnist_ops("runs", "classify", "--no-publish")
    manifest, option = interrupted.stderr.splitlines()[-1].split()[-2:]
    assert option == "--no-publish"
    result = mnist_ops("runs", "resume", manifest, option, "--json")
    assert json.loads(result.stdout).keys() == {"manifest", "predictions"}
    assert f"to write the predictions: mnist-ops runs resume {manifest}" in (
        mnist_ops("runs", "resume", manifest, option).stdout
    )
    assert not any("prediction" in document for document in pipeline.records.documents())
    assert json.loads(mnist_ops("runs", "resume", manifest, "--json").stdout)["outcomes"]["predicted"] == 10


def test_resuming_a_finished_run_changes_nothing(images: Interrupting, pipeline: Pipeline) -> None:
    """It prints the stored ledger, also after a later run changed records, and stores nothing."""
    first = mnist_ops("runs", "classify")
    mnist_ops("runs", "classify", "--reclassify", "all")
    before = pipeline.records.documents(), dict(pipeline.objects.objects), list(pipeline.runs.ledgers())
    images.fetched.clear()
    again = mnist_ops("runs", "resume", snapshot_of(first))
    assert again.stdout == first.stdout
    after = pipeline.records.documents(), dict(pipeline.objects.objects), list(pipeline.runs.ledgers())
    assert (images.fetched, after) == ([], before)


def test_records_that_failed_permanently_are_taken_again_by_their_reason(
    images: Interrupting, pipeline: Pipeline
) -> None:
    """Once the image is there, `--reclassify failed:not_found` predicts the record."""
    payload = images.images.pop(url_of(3))
    mnist_ops("runs", "classify")
    images.images[url_of(3)] = payload
    images.fetched.clear()
    for words in ([], ["--reclassify", "failed:blocked_address"]):
        mnist_ops("runs", "classify", *words)
    assert images.fetched == []
    mnist_ops("runs", "classify", "--reclassify", "failed:blocked_address,not_found")
    assert images.fetched == [url_of(3)]
    assert all(document["prediction"] for document in pipeline.records.documents())


def test_a_held_run_is_resumed_once_the_hold_is_released(
    images: Interrupting, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a ledger, but is not finished."""
    monkeypatch.setenv("MNIST_OPS_FAILURE_BUDGET_FROM", "1")
    for number in range(5):
        images.images[url_of(number)] = b"no image"
    held = mnist_ops("runs", "classify")
    assert "mnist-ops runs resume" in str(held.exception)
    assert held.stdout.split()[:5] == ["PROBLEM", "5", "of", "10", "records"]
    run = next(iter(pipeline.runs.ledgers()))["run"]
    assert mnist_ops("runs", "release-hold", str(run), "--why", "they are broken indeed").exit_code == 0
    result = mnist_ops("runs", "resume", snapshot_of(held), "--json")
    assert json.loads(result.stdout)["outcomes"]["predicted"] == 5


def test_a_run_over_its_budget_with_nothing_to_hold_is_red_until_it_is_released(
    images: Interrupting, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images are missing: exit code 3, also when it is resumed; 0 once somebody has released the run."""
    monkeypatch.setenv("MNIST_OPS_FAILURE_BUDGET_FROM", "1")
    images.images.clear()
    first = mnist_ops("runs", "classify")
    manifest = snapshot_of(first)
    for result in (first, mnist_ops("runs", "resume", manifest)):
        assert isinstance(result.exception, Permanent)
        assert "10 of 10 records failed (10 not_found)" in str(result.exception)
        assert ending_of(result.exception).code == 3
    run = next(iter(pipeline.runs.ledgers()))["run"]
    assert mnist_ops("runs", "release-hold", str(run), "--why", "the server is gone").exit_code == 0
    assert mnist_ops("runs", "resume", manifest).exit_code == 0


def test_a_run_whose_ledger_does_not_add_up_is_resumed(
    images: Interrupting, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part is published, but a prediction was lost: it is written again, and no image is fetched."""
    snapshotted = pipeline.records.document(5)
    reconcile = product.Pipeline.reconcile

    def lossy(steps: product.Pipeline, manifest: str, outcomes: Sequence[str]) -> Ledger:
        pipeline.records.insert(snapshotted)
        return reconcile(steps, manifest, outcomes)

    with monkeypatch.context() as patch:
        patch.setattr(product.Pipeline, "reconcile", lossy)
        red = mnist_ops("runs", "classify")
    assert "1 reported outcomes are not in MongoDB" in str(red.exception)
    (ledger,) = pipeline.runs.ledgers()
    assert (ledger["missing_parts"], ledger["imbalance"] is None) == ([], False)
    images.fetched.clear()
    before = list(pipeline.objects.keys("predictions/"))
    result = mnist_ops("runs", "resume", snapshot_of(red), "--json")
    assert result.exit_code == 0, result.output
    resumed = json.loads(result.stdout)
    assert (resumed["outcomes"]["predicted"], resumed["imbalance"]) == (10, None)
    assert pipeline.records.document(5)["prediction"]
    assert (images.fetched, list(pipeline.objects.keys("predictions/"))) == ([], before)


def test_a_part_with_a_missing_image_object_is_fetched_again(
    images: Interrupting, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shard refers to an object that was deleted."""

    def killed(*_: object, **__: object) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as patch:
        patch.setattr("mnist_ops.steps.classify.classify", killed)
        interrupted = mnist_ops("runs", "classify")
    (key,) = pipeline.objects.keys("images/")
    pipeline.objects.objects[key] += b"damaged"
    images.fetched.clear()
    result = mnist_ops("runs", "resume", snapshot_of(interrupted), "--json")
    assert "part 0 is fetched again" in result.stderr
    assert images.fetched == [url_of(number) for number in range(10)]
    assert json.loads(result.stdout)["outcomes"]["predicted"] == 10


def test_a_count_takes_nothing(images: Interrupting, pipeline: Pipeline) -> None:
    """In words, and as JSON."""
    assert mnist_ops("runs", "classify", "--dry-run").stdout == "10 records would be taken\n"
    assert json.loads(mnist_ops("runs", "classify", "--dry-run", "--json").stdout) == {"would_be_taken": 10}
    assert (images.fetched, list(pipeline.runs.commits())) == ([], [])


@pytest.mark.usefixtures("images")
def test_a_log_has_a_line_for_each_part_that_is_done(caplog: pytest.LogCaptureFixture) -> None:
    """Of parts and records, on standard error where that is no terminal."""
    caplog.set_level(logging.INFO, "mnist_ops.cli")
    mnist_ops("runs", "classify")
    assert [message for message in caplog.messages if " parts, " in message] == [
        f"{doing}: {parts} of 3 parts, {records} of 10 records"
        for doing in ("fetch and classify", "publish")
        for parts, records in ((1, 4), (2, 8), (3, 10))
    ]


def test_the_log_is_written_to_the_present_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar replaces it while it is shown, and puts what is written above itself."""
    handler, present = StandardErrorHandler(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", present)
    handler.emit(logging.LogRecord("name", logging.INFO, "file", 1, "fetched", None, None))
    assert present.getvalue() == "fetched\n"


def test_a_terminal_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """With parts and records."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with part_bar("publish", {0: 4, 1: 2}, console) as done:
        done(0)
        done(1)
    drawn = console.file.getvalue()
    assert "publish: 0 of 2 parts, 0 of 6 records" in drawn
    assert "publish: 2 of 2 parts, 6 of 6 records" in drawn
    assert capsys.readouterr() == ("", "")


def test_a_snapshot_that_its_run_did_not_commit_is_refused(images: Interrupting, pipeline: Pipeline) -> None:
    """The error names it, and the committed one."""
    manifest = snapshot_of(mnist_ops("runs", "classify"))
    generation = pipeline.manifest(manifest).generation
    pipeline.runs = type(pipeline.runs)()
    images.fetched.clear()
    refused = mnist_ops("runs", "resume", manifest)
    assert str(refused.exception) == f"{manifest}: not the snapshot of {generation.id}; that is missing"
    other = pipeline.runs.commit(generation, f"{manifest}.other", pipeline.at)
    refused = mnist_ops("runs", "resume", manifest)
    assert str(refused.exception) == f"{manifest}: not the snapshot of {generation.id}; that is {other}"
    assert images.fetched == []


@pytest.mark.parametrize("run", ["classify_records/manual", "cli/20261121T000000Z-training"])
def test_a_snapshot_of_another_kind_of_run_is_refused(
    images: Interrupting, pipeline: Pipeline, run: str
) -> None:
    """A run of Airflow or of `runs train` is refused before anything is fetched."""
    labelled = run.endswith("training")
    if labelled:
        pipeline.add_digit("known", 3, label="three")
    manifest = pipeline.snapshot(run, labelled=labelled)
    refused = mnist_ops("runs", "resume", manifest)
    assert refused.exit_code != 0
    assert f"of {run}, which is not a `runs classify`" in str(refused.exception)
    assert images.fetched == []
