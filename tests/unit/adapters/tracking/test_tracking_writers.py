"""The trackers; what each records is read back by the reader used in practice."""

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_ops.adapters.tracking.console import ConsoleTracker
from mnist_ops.adapters.tracking.sqlite import SqliteTracker
from mnist_ops.adapters.tracking.sqlite_reader import Experiments
from mnist_ops.adapters.tracking.tensorboard import TensorBoardTracker
from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.settings import Settings
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Status, Tracker, Trackers
from mnist_ops.wiring import tracker_of

AT = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
DATASET = "sha256:" + "a" * 64
SUMMARY = QueueSummary(3, 0.5, 0.1, 0.4, 0.6)

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mnist_ops.adapters.tracking.sqlite import SqliteTracker
from mnist_ops.vision.training.tracking import Experiment, Outcome, Status

path, name = Path(sys.argv[1]), sys.argv[2]
tracker = SqliteTracker(path)
at = datetime.now(UTC)
tracker.begin(Experiment(name, at, {"seed": name}, "sha256:0", "cpu"))
for step in range(1, 101):
    tracker.scalars(step, {"train/loss": 1 / step, "train/epoch": step})
tracker.hparams({"seed": name}, {"best/epoch": 1.0})
tracker.finish(Outcome(Status.FINISHED, at, 1))
"""


def experiment(name: str = "one", **config: object) -> Experiment:
    """Return an experiment."""
    return Experiment(name, AT, config or {"epochs": 2}, DATASET, "cpu", {"torch": "2"})


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Query the file without our reader."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of the file; neither it nor its folder exists."""
    return tmp_path / "training" / "experiments.sqlite"


@pytest.fixture
def sqlite(file: Path) -> SqliteTracker:
    """A tracker whose experiment has begun."""
    tracker = SqliteTracker(file)
    tracker.begin(experiment())
    return tracker


# --- SQLite


def test_an_experiment_is_read_as_it_was_written(sqlite: SqliteTracker, file: Path) -> None:
    """With its end and its final metrics."""
    sqlite.hparams({"epochs": 2}, {"best/epoch": 2.0, "best/validation_accuracy": 0.99})
    sqlite.finish(Outcome(Status.FINISHED, AT + timedelta(minutes=3), 2))
    (record,) = Experiments(file).all()
    assert record.experiment == experiment()
    assert (record.status, record.best_epoch, record.why) == (Status.FINISHED, 2, None)
    assert record.finished_at == AT + timedelta(minutes=3)
    assert record.metrics == {"best/epoch": 2.0, "best/validation_accuracy": 0.99}


def test_every_table_is_filled(sqlite: SqliteTracker, file: Path) -> None:
    """Read without our own reader."""
    sqlite.scalars(1, {"train/loss": 0.5})
    sqlite.queues(1, {"train/loss": SUMMARY})
    sqlite.hparams({"epochs": 2, "network": "lenet5"}, {"best/epoch": 2.0})
    assert rows(file, "SELECT * FROM scalars") == [("one", "train/loss", 1, 0.5)]
    assert rows(file, "SELECT * FROM queues") == [("one", "train/loss", 1, 3, 0.5, 0.1, 0.4, 0.6)]
    assert rows(file, "SELECT * FROM hparams") == [("one", "epochs", "2"), ("one", "network", '"lenet5"')]
    assert rows(file, "SELECT * FROM final_metrics") == [("one", "best/epoch", 2.0)]


def test_the_file_has_a_version_and_a_write_ahead_log(sqlite: SqliteTracker, file: Path) -> None:
    """A later version migrates from that version."""
    assert sqlite.name == "sqlite"
    assert rows(file, "PRAGMA user_version") == [(1,)]
    assert rows(file, "PRAGMA journal_mode") == [("wal",)]


def test_six_processes_write_at_once_and_nothing_is_lost(file: Path) -> None:
    """They also create the file at the same time."""
    names = [f"writer-{number}" for number in range(6)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(file), name], stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 6, errors
    counts = rows(file, "SELECT experiment, count(*), count(DISTINCT step) FROM scalars GROUP BY experiment")
    assert counts == [(name, 200, 100) for name in names]
    assert {record.status for record in Experiments(file).all()} == {Status.FINISHED}
    assert rows(file, "PRAGMA integrity_check") == [("ok",)]


def test_a_reader_sees_a_running_training(sqlite: SqliteTracker, file: Path) -> None:
    """With its best accuracy, not its last."""
    sqlite.scalars(10, {"validation/accuracy": 0.9})
    sqlite.scalars(20, {"validation/accuracy": 0.8})
    (record,) = Experiments(file).all()
    assert (record.status, record.best_accuracy, record.finished_at) == (Status.RUNNING, 0.9, None)


def test_numbers_of_an_unknown_experiment_are_refused(sqlite: SqliteTracker, file: Path) -> None:
    """Foreign keys are on."""
    connection = sqlite3.connect(file)
    connection.execute("DELETE FROM experiments")
    connection.commit()
    connection.close()
    with pytest.raises(Transient, match="FOREIGN KEY"):
        sqlite.scalars(1, {"train/loss": 0.5})


def test_a_failed_transaction_writes_nothing(sqlite: SqliteTracker, file: Path) -> None:
    """The second value is refused, so the first is not written."""
    with pytest.raises(Transient):
        sqlite.scalars(1, {"train/loss": 0.5, "train/epoch": "many"})
    assert rows(file, "SELECT count(*) FROM scalars") == [(0,)]


def test_a_resumed_training_replaces_the_steps_that_it_repeats(sqlite: SqliteTracker, file: Path) -> None:
    """From its first new step on, new numbers replace old ones."""
    for step in (100, 200, 300):
        sqlite.scalars(step, {"train/loss": 1.0})
        sqlite.queues(step, {"train/loss": SUMMARY})
    again = SqliteTracker(file)
    again.begin(experiment())
    again.scalars(200, {"train/loss": 0.5})
    again.scalars(250, {"train/loss": 0.4})
    assert rows(file, "SELECT step, value FROM scalars") == [(100, 1.0), (200, 0.5), (250, 0.4)]
    assert rows(file, "SELECT step FROM queues") == [(100,)]


def test_the_name_of_an_experiment_is_refused_to_another_config(sqlite: SqliteTracker, file: Path) -> None:
    """A name belongs to one training."""
    assert sqlite.name
    with pytest.raises(Permanent, match="another config"):
        SqliteTracker(file).begin(experiment(epochs=3))


def test_a_loss_that_is_nan_is_read_back_as_nan(sqlite: SqliteTracker, file: Path) -> None:
    """SQLite stores it as NULL."""
    step = {"train/epoch": 1.0, "train/epoch_loss": float("nan"), "validation/nll": float("inf")}
    sqlite.scalars(1, step | {"validation/accuracy": 0.1})
    (validation,) = Experiments(file).log("one")
    assert np.isnan(validation.train_loss)
    assert validation.validation_nll == float("inf")


def test_a_file_of_a_newer_version_is_refused(file: Path) -> None:
    """By the tracker and by the reader."""
    file.parent.mkdir()
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Permanent, match="newer"):
        SqliteTracker(file).begin(experiment())
    with pytest.raises(Permanent, match="newer"):
        Experiments(file).all()


def test_a_file_that_is_not_sqlite_drops_the_tracker_and_not_the_training(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The reader's error says what is wrong with the file."""
    file.parent.mkdir()
    file.write_bytes(b"no database" * 100)
    trackers = Trackers([SqliteTracker(file)])
    trackers.begin(experiment())
    assert trackers.active == ()
    assert "tracker sqlite is dropped" in caplog.text
    with pytest.raises(Permanent, match="not a database"):
        Experiments(file).all()


def test_times_are_kept_in_utc(file: Path) -> None:
    """So that they sort as text."""
    there = timezone(timedelta(hours=9))
    SqliteTracker(file).begin(Experiment("one", AT.astimezone(there), {}, DATASET, "cpu"))
    assert rows(file, "SELECT started_at FROM experiments") == [("2026-11-21T07:00:00+00:00",)]


# --- TensorBoard


def read(folder: Path) -> EventAccumulator:
    """Read event files as TensorBoard does."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    return events


def test_tensorboard_shows_the_repeated_steps_of_a_resumed_training_once(tmp_path: Path) -> None:
    """From its first new step on, new numbers replace old ones."""
    first = TensorBoardTracker(tmp_path)
    first.begin(experiment())
    for step in (100, 200, 300):
        first.scalars(step, {"train/loss": 1.0})
    first.finish(Outcome(Status.INTERRUPTED, AT))
    again = TensorBoardTracker(tmp_path)
    again.begin(experiment())
    again.scalars(200, {"train/loss": 0.5})
    again.finish(Outcome(Status.FINISHED, AT))
    events = read(tmp_path / "one").Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(100, 1.0), (200, 0.5)]


def test_histograms_skip_values_that_are_not_finite(tmp_path: Path) -> None:
    """A value beyond the last bin is counted in it."""
    tracker = TensorBoardTracker(tmp_path)
    tracker.begin(experiment())
    broken = np.array([[1.0, np.nan], [np.inf, 1e30]], dtype=np.float32)
    tracker.histograms(1, {"weights/broken": broken, "weights/lost": np.full(3, np.nan)})
    tracker.finish(Outcome(Status.FAILED, AT))
    events = read(tmp_path / "one")
    assert events.Tags()["histograms"] == ["weights/broken"]
    assert events.Histograms("weights/broken")[0].histogram_value.num == 2


def test_a_folder_that_cannot_be_created_drops_the_tracker_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once."""
    (tmp_path / "file").write_text("no folder")
    trackers = Trackers([TensorBoardTracker(tmp_path / "file")])
    trackers.begin(experiment())
    trackers.scalars(1, {"train/loss": 0.5})
    assert caplog.text.count("tracker tensorboard is dropped") == 1


class Untraceable(torch.nn.Module):
    """A network whose output is not a tensor."""

    def forward(self, images: torch.Tensor) -> str:
        """Return a text."""
        return f"{len(images)} digits"


class Changing(torch.nn.Module):
    """A network that differs from its trace, because each call does more."""

    runs = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Add the number of calls."""
        self.runs += 1
        for _ in range(self.runs):
            images = images + 1
        return images


class OfAnotherShape(torch.nn.Module):
    """A network that needs inputs of another shape."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Multiply matrices of different sizes."""
        return images @ torch.zeros(3, 3)


def dropped(tmp_path: Path, call: Callable[[Tracker], None]) -> bool:
    """Return whether a call drops the TensorBoard tracker; an error other than Transient ends the test."""
    trackers = Trackers([TensorBoardTracker(tmp_path)])
    trackers.begin(experiment())
    call(trackers)
    trackers.scalars(1, {"train/loss": 0.5})
    trackers.finish(Outcome(Status.FINISHED, AT))
    return trackers.active == ()


@pytest.mark.parametrize("network", [Untraceable, Changing, OfAnotherShape])
def test_a_graph_that_cannot_be_traced_drops_the_tracker_and_not_the_training(
    tmp_path: Path,
    network: type[torch.nn.Module],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The log says why; standard output stays empty."""
    assert dropped(tmp_path, lambda tracker: tracker.graph(network(), torch.zeros(1, 1, 28, 28)))
    assert (
        "tracker tensorboard is dropped, the training continues: the writer cannot record it: " in caplog.text
    )
    assert capsys.readouterr().out == ""


def test_a_histogram_of_nan_drops_neither_the_tracker_nor_the_training(tmp_path: Path) -> None:
    """A diverging training has such weights, and its other numbers show when."""
    lost = {"weights/lost": np.full((5, 5), np.nan, dtype=np.float32)}
    assert not dropped(tmp_path, lambda tracker: tracker.histograms(1, lost))
    assert [event.value for event in read(tmp_path / "one").Scalars("train/loss")] == [0.5]


def test_an_embedding_with_too_few_labels_drops_the_tracker_and_not_the_training(tmp_path: Path) -> None:
    """One label for two vectors."""
    vectors, images = np.eye(2, dtype=np.float32), np.zeros((2, 28, 28), dtype=np.uint8)
    assert dropped(tmp_path, lambda tracker: tracker.embedding(1, "validation", vectors, ["one"], images))


def test_a_second_embedding_prints_nothing_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is for results, and may be piped."""
    for _ in range(2):
        tracker = TensorBoardTracker(tmp_path)
        tracker.begin(experiment())
        images = np.zeros((2, 28, 28), dtype=np.uint8)
        tracker.embedding(1, "validation", np.eye(2, dtype=np.float32), ["one", "two"], images)
        tracker.finish(Outcome(Status.FINISHED, AT))
    assert capsys.readouterr().out == ""


# --- every tracker


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: SqliteTracker(folder / "experiments.sqlite"),
        TensorBoardTracker,
        lambda _: ConsoleTracker(),
    ],
    ids=["sqlite", "tensorboard", "console"],
)
def test_an_end_may_be_recorded_twice(make: Callable[[Path], Tracker], tmp_path: Path) -> None:
    """A training may finish, and its upload may fail afterwards."""
    tracker = make(tmp_path)
    tracker.begin(experiment())
    tracker.finish(Outcome(Status.FINISHED, AT, 1))
    tracker.finish(Outcome(Status.FAILED, AT, why="the upload failed"))


def test_the_console_has_a_line_for_each_call(caplog: pytest.LogCaptureFixture) -> None:
    """With six significant digits."""
    tracker = ConsoleTracker()
    with caplog.at_level(logging.INFO):
        tracker.begin(experiment())
        tracker.scalars(100, {"train/loss": 0.123456789, "train/learning_rate": 0.01})
        tracker.hparams({"epochs": 2}, {"best/epoch": 2.0})
        tracker.finish(Outcome(Status.FAILED, AT, why="no memory"))
    assert [entry.getMessage() for entry in caplog.records] == [
        "experiment one on cpu: epochs=2",
        "step 100: train/loss 0.123457, train/learning_rate 0.01",
        "final: best/epoch 2",
        "experiment failed: no memory",
    ]


def test_the_settings_choose_the_trackers(tmp_path: Path) -> None:
    """In any order and case; an empty setting means no tracker."""
    chosen = tracker_of(Settings(training_dir=tmp_path, trackers="console, SQLite,tensorboard"))
    assert [tracker.name for tracker in chosen.active] == ["console", "sqlite", "tensorboard"]
    assert tracker_of(Settings(training_dir=tmp_path, trackers="")).active == ()
    by_default = tracker_of(Settings(training_dir=tmp_path)).active
    assert [tracker.name for tracker in by_default] == ["sqlite", "tensorboard"]


def test_a_tracker_that_does_not_exist_is_refused() -> None:
    """The message names those that exist."""
    with pytest.raises(ValueError, match="'console', 'tensorboard', 'sqlite' or 'mlflow'"):
        Settings(trackers="wandb")


def test_mlflow_without_an_address_is_refused() -> None:
    """The message names the missing variable."""
    with pytest.raises(Permanent, match="MNIST_OPS_MLFLOW_TRACKING_URI"):
        tracker_of(Settings(trackers="mlflow"))


def test_the_error_for_a_missing_mlflow_names_the_extra() -> None:
    """Before the training begins."""
    program = """
import sys
sys.modules["mlflow"] = None
from mnist_ops.settings import Settings
from mnist_ops.wiring import tracker_of
tracker_of(Settings(trackers="mlflow", mlflow_tracking_uri="http://127.0.0.1:1"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Permanent: the tracker mlflow needs the extra `mlflow`" in done.stderr


def test_choosing_the_trackers_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    """The command line starts quickly."""
    program = f"""
import sys
from mnist_ops.settings import Settings
from mnist_ops.wiring import tracker_of
tracker_of(Settings(training_dir={str(tmp_path)!r}))
print(sorted({{"torch", "mlflow", "tensorboard"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
