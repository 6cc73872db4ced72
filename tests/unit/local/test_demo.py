"""The demo, over an Airflow that runs nothing: in which order it asks, what it checks, and what it prints."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from mnist_ops.adapters.memory.registries import InMemoryModels, InMemoryRuns
from mnist_ops.cli._support.embedded_stack import run_demo
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.demo import CLASSIFY, DAYS, EPOCHS, Demo, Result
from mnist_ops.local.demo_records import make_records
from mnist_ops.local.demo_report import show, show_places
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import Ports
from mnist_ops.local.state import describe

IMAGES = "http://127.0.0.1:8334"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MODEL = RegisteredModel(
    BundleRef("lenet5", 1, "s3://b/models/lenet5/000001", "sha256:0"),
    training="s3://b/training.json",
    metrics={"test_accuracy": 0.98, "test_samples": 592.0},
    released_at=NOON,
)


class Models(InMemoryModels):
    """A registry with one champion."""

    def champion(self, name: str) -> BundleRef | None:
        return MODEL.bundle

    def models(self, name: str) -> list[RegisteredModel]:
        return [MODEL]


class Runs(InMemoryRuns):
    """One ledger over all records."""

    def __init__(self) -> None:
        super().__init__()
        made = make_records(IMAGES, NOON)
        self.ledger: dict[str, object] = {
            "_id": f"{CLASSIFY}/one/0",
            "outcomes": {"predicted": len(made.truth), "quarantined": len(made.failures), "held": 0},
            "reasons": Counter(str(reason) for reason in made.failures.values()),
            "imbalance": None,
            "selected": len(made.waiting),
            "stages": {"fetch": {"records": 1500, "seconds": 0.5}},
        }

    def ledgers(self, run_prefix: str = "") -> Iterator[Mapping[str, object]]:
        yield self.ledger


@dataclass
class Records:
    """The collection; `calls` is told of the first of the records that are stored together."""

    calls: list[str]
    stored: dict[str, dict[str, object]] = field(default_factory=dict)

    def insert(self, *documents: Mapping[str, object]) -> None:
        self.stored.update({str(document["_id"]): dict(document) for document in documents})
        self.calls.append(f"insert {documents[0]['_id']}")

    def documents(self) -> list[dict[str, object]]:
        return [dict(document) for document in self.stored.values()]


@dataclass
class Airflow:
    """Says that every run has succeeded; waiting for one gives the stored records what they must get."""

    calls: list[str]
    records: Records
    confs: list[Mapping[str, object] | None] = field(default_factory=list)

    def unpause(self, dag_id: str) -> None:
        self.calls.append(f"unpause {dag_id}")

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None) -> str:
        self.confs.append(conf)
        self.calls.append(f"trigger {dag_id}")
        return f"manual-{len(self.confs)}"

    def runs(self, dag_id: str) -> list[dict[str, object]]:
        backfill = {"dag_run_id": "backfill", "run_type": "backfill", "state": "success"}
        started = (DAYS - 1) * ("backfill" in self.calls)
        return [{"dag_run_id": "scheduled", "run_type": "scheduled"}, *[backfill] * started]

    def first_run(self, dag_id: str, timeout_s: float) -> str:
        return "scheduled"

    def wait(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        self.calls.append(f"wait {run_id}")
        made = make_records(IMAGES, NOON)
        for record_id, index in made.truth.items():
            if record_id in self.records.stored:
                self.records.stored[record_id]["prediction"] = {"index": index}
        for record_id, reason in made.failures.items():
            if record_id in self.records.stored:
                self.records.stored[record_id]["prediction_failure"] = {"reason": str(reason)}
        return "success"

    def backfill(self, dag_id: str, since: datetime, until: datetime, options: Mapping[str, object]) -> int:
        self.calls.append("backfill")
        return 1

    def wait_for_backfill(self, backfill_id: int, timeout_s: float) -> None:
        self.calls.append("wait for backfill")


@dataclass
class Played:
    """A demo that was run: what it asked for, what it printed, and its result."""

    calls: list[str]
    confs: list[Mapping[str, object] | None]
    printed: str
    result: Result


def play(runs: Runs | None = None) -> Played:
    """Run the demo."""
    calls: list[str] = []
    records, output = Records(calls), io.StringIO()
    airflow = Airflow(calls, records)
    demo = Demo(airflow, records, runs or Runs(), Models(), Console(file=output, width=100))
    result = demo.run(IMAGES, "lenet5")
    return Played(calls, airflow.confs, output.getvalue(), result)


@pytest.fixture(scope="module")
def played() -> Played:
    """One demo in which everything is right."""
    return play()


def test_a_demo_whose_numbers_are_right_has_no_complaint(played: Played) -> None:
    """The doubles give every record what it must get."""
    assert played.result.complaints == []
    assert played.result.accuracy == 1.0
    assert played.result.model == MODEL


def test_a_count_that_differs_is_a_complaint() -> None:
    """The checks can fail."""
    runs = Runs()
    runs.ledger["outcomes"] = {"predicted": 1}
    (complaint,) = play(runs).result.complaints
    assert complaint.startswith("the ledgers count {'predicted': 1}")


def test_the_first_run_of_the_unpaused_dag_ends_before_there_is_a_record_for_it(played: Played) -> None:
    """It would take the records that the backfill is meant to classify; it runs beside the training."""
    order = ["trigger train_lenet", "unpause classify_records", "wait scheduled", "insert waiting-00000"]
    assert [call for call in played.calls if call in order] == order


def test_the_backfill_runs_beside_the_run_by_hand(played: Played) -> None:
    """They take different days, so neither waits for the other."""
    assert played.calls.index("backfill") < played.calls.index("wait manual-2")


def test_the_shorter_training_is_said_where_its_time_is_told(played: Played) -> None:
    """Nobody shall take the demo's accuracy for that of the defaults."""
    assert played.confs[0] == {"epochs": EPOCHS}
    assert f"in {EPOCHS} epochs (30 are the default)" in played.printed


def test_failures_that_must_happen_are_announced(played: Played) -> None:
    """The table of reasons is no surprise."""
    assert "12 of them are broken on purpose and must fail" in played.printed


def test_the_table_has_no_outcome_that_did_not_happen(played: Played) -> None:
    """A row of zeros would need to be explained."""
    output = io.StringIO()
    show(played.result, Console(file=output, width=100))
    assert "quarantined" in output.getvalue()
    assert "held" not in output.getvalue()


@pytest.mark.parametrize("keep", [True, False])
def test_the_last_lines_say_where_everything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """The account, the database, S3 and its keys, how long it took, and what to do next."""
    monkeypatch.chdir(tmp_path)
    layout, output = Layout(tmp_path / "demo"), io.StringIO()
    layout.make_folders(())
    stack = describe(Ports(), load_or_create(layout), settings={})
    show_places(stack, layout, Console(file=output, width=80), seconds=141.6, keep=keep)
    printed = output.getvalue()
    assert printed.startswith("\n142 s in all.")
    assert "http://127.0.0.1:8080, user admin, password in demo/secrets/airflow_passwords.json" in printed
    assert "mongodb://127.0.0.1:27117/mnist, without a password" in printed
    assert "http://127.0.0.1:8333, bucket mnist-ops, keys in demo/secrets/credentials.json" in printed
    assert ("export MNIST_OPS_LOCAL_DIR=demo\n" in printed) == keep
    assert ("KEEP=1 make demo" in printed) == (not keep)


def test_a_wrong_port_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without credentials would be taken for somebody else's by the next demo."""
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="MNIST_OPS_PORT_S3"):
        run_demo({"MNIST_OPS_PORT_S3": "x"}, keep=False)
    assert list(tmp_path.iterdir()) == []
