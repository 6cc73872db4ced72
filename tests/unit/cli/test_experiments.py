"""`mnist-ops experiments`: what it prints of tracked trainings."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mnist_ops.adapters.tracking.sqlite import SqliteTracker
from mnist_ops.cli import app
from mnist_ops.domain.errors import Permanent, UsageError
from mnist_ops.vision.training.tracking import Experiment, Outcome, Status

AT = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
DATASET = "sha256:" + "a" * 64

Run = Callable[..., Result]


def track(folder: Path, name: str, hours: int, accuracies: list[float], **config: object) -> None:
    """Track a finished training with an epoch for each accuracy."""
    tracker = SqliteTracker(folder / "experiments.sqlite")
    started = AT + timedelta(hours=hours)
    tracker.begin(Experiment(name, started, config, DATASET, "cpu", {"torch": "2.15"}))
    for epoch, accuracy in enumerate(accuracies, start=1):
        tracker.scalars(epoch * 100 - 50, {"train/loss": 0.5, "train/learning_rate": 0.01 / epoch})
        tracker.scalars(
            epoch * 100,
            {
                "train/epoch": epoch,
                "train/epoch_loss": 0.4 / epoch,
                "validation/accuracy": accuracy,
                "validation/nll": 0.1,
            },
        )
    best = max(accuracies)
    tracker.hparams(config, {"best/validation_accuracy": best, "best/validation_nll": 0.1})
    tracker.finish(Outcome(Status.FINISHED, started + timedelta(minutes=1), accuracies.index(best) + 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two finished trainings, and one that has just started."""
    track(tmp_path, "lenet5-aaaa-1111", 0, [0.95, 0.98, 0.97], epochs=3, network="lenet5", seed=0)
    track(tmp_path, "mnistnet-aaaa-2222", 2, [0.90, 0.96], epochs=2, network="mnistnet", seed=0)
    SqliteTracker(tmp_path / "experiments.sqlite").begin(
        Experiment("lenet5-aaaa-3333", AT + timedelta(hours=1), {"epochs": 9}, DATASET, "cuda")
    )
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command of `experiments`."""
    monkeypatch.setenv("MNIST_OPS_TRAINING_DIR", str(folder))
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(folder / "no stack"))
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner().invoke(app, ["experiments", *arguments])


def test_the_list_has_the_newest_first_with_its_best_accuracy(run: Run) -> None:
    """A training without a validation has no best accuracy."""
    header, *lines = run("list").stdout.splitlines()
    assert header.split() == ["name", "started", "status", "device", "config", "best", "accuracy"]
    words = [line.split() for line in lines]
    assert [(w[0], w[1], w[2], w[4], w[5], w[7]) for w in words] == [
        ("mnistnet-aaaa-2222", "2026-11-21", "09:00:00", "finished", "cpu", "0.96"),
        ("lenet5-aaaa-3333", "2026-11-21", "08:00:00", "running", "cuda", "-"),
        ("lenet5-aaaa-1111", "2026-11-21", "07:00:00", "finished", "cpu", "0.98"),
    ]
    assert len({w[6] for w in words}) == 3  # the digests of their configs


def test_the_json_list_has_an_object_for_each_experiment(run: Run) -> None:
    """Newest first, with times in ISO 8601."""
    newest, running, _ = (json.loads(line) for line in run("list", "--json").stdout.splitlines())
    assert (newest["name"], newest["best_accuracy"]) == ("mnistnet-aaaa-2222", 0.96)
    assert newest["started_at"] == "2026-11-21T09:00:00+00:00"
    assert (running["status"], running["finished_at"]) == ("running", None)


def test_the_json_of_an_experiment_has_its_config_and_metrics(run: Run) -> None:
    """And what it ran on."""
    shown = json.loads(run("show", "1111", "--json").stdout)
    assert shown["config"] == {"epochs": 3, "network": "lenet5", "seed": 0}
    assert shown["metrics"]["best/validation_accuracy"] == 0.98
    assert shown["environment"] == {"torch": "2.15"}


def test_the_json_of_a_comparison_has_an_object_for_each_difference(run: Run) -> None:
    """Under the names of the experiments."""
    lines = [json.loads(line) for line in run("compare", "1111", "2222", "--json").stdout.splitlines()]
    assert lines[0] == {"name": "config.epochs", "lenet5-aaaa-1111": 3, "mnistnet-aaaa-2222": 2}
    assert len(lines) == 3


def test_show_prints_config_metrics_environment_and_best_epoch(run: Run) -> None:
    """Everything that was recorded except the curves."""
    shown = {tuple(line.split(maxsplit=1)) for line in run("show", "lenet5-aaaa-1111").stdout.splitlines()}
    assert {
        ("network", "lenet5"),
        ("epochs", "3"),
        ("best/validation_accuracy", "0.98"),
        ("torch", "2.15"),
    } <= shown
    assert "  best epoch     2\n" in run("show", "lenet5-aaaa-1111").stdout


def test_the_log_has_a_line_for_each_validation(run: Run) -> None:
    """With the learning rate of the last step before it."""
    printed = run("log", "mnist").stdout.splitlines()
    assert len({len(line) for line in printed}) == 1  # numbers are aligned to the right
    lines = [line.split() for line in printed]
    assert lines[1:] == [
        ["1", "100", "0.4000", "0.9000", "0.1000", "0.01"],
        ["2", "200", "0.2000", "0.9600", "0.1000", "0.005"],
    ]


def test_the_json_log_has_an_object_for_each_validation(run: Run) -> None:
    """Under the names that the library uses."""
    first, second = (json.loads(line) for line in run("log", "mnist", "--json").stdout.splitlines())
    assert first == {
        "epoch": 1,
        "step": 100,
        "train_loss": 0.4,
        "validation_accuracy": 0.9,
        "validation_nll": 0.1,
        "learning_rate": 0.01,
    }
    assert second["epoch"] == 2


def test_an_infinite_loss_is_null_in_json(run: Run, folder: Path) -> None:
    """JSON has no infinity."""
    tracker = SqliteTracker(folder / "experiments.sqlite")
    tracker.begin(Experiment("diverged", AT, {}, DATASET, "cpu"))
    tracker.scalars(1, {"train/epoch": 1, "train/epoch_loss": float("inf"), "validation/accuracy": 0.1})
    (line,) = run("log", "diverged", "--json").stdout.splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    assert (found["train_loss"], found["validation_nll"], found["learning_rate"]) == (None, None, None)


def test_a_comparison_shows_only_what_differs(run: Run) -> None:
    """Data set, device, seed and NLL are the same."""
    header, *lines = run("compare", "1111", "2222").stdout.splitlines()
    assert header.split() == ["lenet5-aaaa-1111", "mnistnet-aaaa-2222", "difference"]
    assert [line.split() for line in lines] == [
        ["config.epochs", "3", "2", "-1"],
        ["config.network", "lenet5", "mnistnet"],
        ["best/validation_accuracy", "0.98", "0.96", "-0.02"],
    ]


def test_a_comparison_with_all_shows_equal_values_too(run: Run) -> None:
    """The option is `--all`."""
    lines = [line.split() for line in run("compare", "1111", "2222", "--all").stdout.splitlines()]
    assert ["config.seed", "0", "0", "+0"] in lines
    assert ["dataset", "aaaaaaaaaaaa", "aaaaaaaaaaaa"] in lines
    assert ["best/validation_nll", "0.1", "0.1", "+0"] in lines


def test_a_difference_smaller_than_the_printed_digits_is_shown(run: Run, folder: Path) -> None:
    """Numbers are compared, not their text."""
    track(folder, "close", 3, [0.98 + 1e-9], epochs=3, network="lenet5", seed=0)
    assert ["best/validation_accuracy", "0.98", "0.98", "+1e-09"] in [
        line.split() for line in run("compare", "1111", "close").stdout.splitlines()
    ]


def test_an_experiment_does_not_differ_from_itself(run: Run) -> None:
    """The output says so."""
    assert run("compare", "1111", "1111").stdout == "lenet5-aaaa-1111 and lenet5-aaaa-1111 do not differ\n"


def test_a_value_that_only_one_experiment_has_is_a_difference(run: Run) -> None:
    """The other one shows a dash."""
    lines = [line.split() for line in run("compare", "1111", "3333").stdout.splitlines()]
    assert ["config.seed", "0", "-"] in lines
    assert ["best/validation_nll", "0.1", "-"] in lines
    assert ["status", "finished", "running"] in lines


@pytest.mark.parametrize("name", ["mnistnet-aaaa-2222", "mnist", "2222"])
def test_a_name_may_be_abbreviated(run: Run, name: str) -> None:
    """To its beginning, or to any part of it."""
    assert run("show", name).stdout.startswith("mnistnet-aaaa-2222:\n")


def test_a_complete_name_wins_over_names_that_begin_with_it(run: Run, folder: Path) -> None:
    """Otherwise that experiment could not be named."""
    track(folder, "lenet5", 5, [0.5])
    assert run("show", "lenet5").stdout.startswith("lenet5:\n")


def test_an_ambiguous_abbreviation_lists_the_candidates(run: Run) -> None:
    """The next attempt can then be right."""
    error = run("show", "lenet5").exception
    assert isinstance(error, UsageError)
    assert str(error) == "experiment 'lenet5' may be any of lenet5-aaaa-3333, lenet5-aaaa-1111"


def test_an_unknown_name_lists_the_experiments(run: Run) -> None:
    """Newest first."""
    error = run("compare", "1111", "nothing").exception
    assert isinstance(error, UsageError)
    assert str(error).startswith("no experiment 'nothing'; there are mnistnet-aaaa-2222, ")


def test_before_the_first_training_the_list_is_empty_and_names_the_file(run: Run, tmp_path: Path) -> None:
    """The configured folder may be the wrong one."""
    file = tmp_path / "experiments.sqlite"
    file.unlink()
    result = run("list")
    assert (result.exit_code, result.output) == (0, f"no training has been tracked in {file} yet\n")
    assert (run("list", "--json").exit_code, run("list", "--json").output) == (0, "")


def test_a_training_without_a_validation_says_so(run: Run) -> None:
    """It has just started."""
    assert run("log", "3333").output == "no validation yet\n"
    assert run("log", "3333", "--json").output == ""


def test_before_the_first_training_no_experiment_has_a_name(run: Run, tmp_path: Path) -> None:
    """It is wrong usage, as it is later."""
    (tmp_path / "experiments.sqlite").unlink()
    for words in (["show", "x"], ["log", "x"], ["compare", "x", "y"]):
        error = run(*words).exception
        assert isinstance(error, UsageError)
        assert str(error).startswith("no experiment 'x'; no training has been tracked in ")


def test_tensorboard_before_the_first_training_says_so(run: Run, tmp_path: Path) -> None:
    """An empty page would not explain it."""
    assert run("list").exit_code == 0
    error = CliRunner().invoke(app, ["experiments", "tensorboard"]).exception
    assert isinstance(error, Permanent)
    assert str(error) == f"{tmp_path / 'tensorboard'}: no training has been tracked for TensorBoard yet"


def test_reading_experiments_needs_neither_torch_nor_clients(folder: Path) -> None:
    """It is quick, and works without extras."""
    program = """
import sys
from typer.testing import CliRunner
from mnist_ops.cli import app
result = CliRunner().invoke(app, ["experiments", "list"])
assert result.exit_code == 0, result.output
print(sorted({"torch", "numpy", "tensorboard", "mlflow", "boto3", "pymongo"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"MNIST_OPS_TRAINING_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
