"""Configurations, sweeps and finished trainings at the command line, over the in-memory adapters."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_ops import wiring
from mnist_ops.cli import main
from mnist_ops.cli._support.trials import best_training, train_trials
from mnist_ops.domain.errors import Permanent
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.steps.choose import read_choice
from mnist_ops.vision.config.schema import TrainingConfig
from tests.support.pipeline_in_memory import MODEL, Pipeline, Trained

ROOT = Path(__file__).parents[3]
QUICK = ("--config", "plain", "--set", "epochs=1", "--set", "batch_size=40", "--set", "averaging=0")
DIVERGING = ("--set", "optimizer=sgd", "--set", "momentum=0.99")  # at learning rates about 10

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command line as a shell does; gives exit code, output and errors."""
    for name, value in {
        "LOCAL_DIR": tmp_path / "no stack",
        "TRAINING_DIR": tmp_path / "training",
        "TRACKERS": "sqlite",
        "DEVICE": "cpu",
        "MINIMUM_ACCURACY": 0,
        "GATE_MAXIMUM_ECE": 1,
    }.items():
        monkeypatch.setenv(f"MNIST_OPS_{name}", str(value))
    # Other tests of this process may have configured Airflow's log, which writes to standard output.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mnist-ops", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capfd.readouterr()
        code = exited.value.code
        return (code if isinstance(code, int) else int(code is not None)), captured.out, captured.err

    return run


@pytest.fixture
def pipeline(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A data set and a training of it; the command line is connected to it."""
    pipeline = trained.pipeline.copy()

    monkeypatch.setattr(wiring, "adapters_of_environment", lambda settings, _: pipeline.adapters(settings))
    return pipeline


# --- config


def test_config_show_prints_every_value(run: Run) -> None:
    """The values of the file, of the files that it extends, of --set, and the defaults."""
    code, out, _ = run("config", "show", "--config", "classic", "--set", "epochs=2", "--set", "seed=5")
    shown = json.loads(out)
    assert code == 0
    assert (shown["epochs"], shown["seed"], shown["optimizer"], shown["zoom"]) == (2, 5, "adadelta", 0)
    assert shown["validate_every"] is None


def test_the_output_of_config_show_is_a_valid_config(run: Run, tmp_path: Path) -> None:
    """Also for a sweep."""
    _, first, _ = run("config", "show", "--config", "kernel-sizes", "--set", "epochs=2")
    file = tmp_path / "shown.json"
    file.write_text(first)
    assert run("config", "show", "--config", file) == (0, first, "")
    assert json.loads(first)["sweep"] == {"kernel_sizes": [[3, 3], [3, 5], [5, 3], [5, 5]]}


def test_config_schema_prints_the_published_schema(run: Run) -> None:
    """Byte for byte."""
    published = (ROOT / "docs" / "training-config.schema.json").read_text()
    assert run("config", "schema") == (0, published, "")


@pytest.mark.parametrize(
    "command",
    [
        ["config", "show"],
        ["runs", "train"],
        ["experiments", "sweep", "s3://b/x"],
        ["steps", "train", "--dataset", "x"],
    ],
)
def test_a_wrong_config_is_a_line_for_each_problem_with_its_file(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    """Exit code 2, before any connection is opened."""
    file = tmp_path / "wrong.toml"
    file.write_text("epochs = 0\nbatch = 7")
    code, out, err = run(*command, "--config", file, "--set", "zoom=x")
    assert (code, out) == (2, "")
    assert sorted(err.splitlines()) == [
        f"error: batch: there is no such field; did you mean batch_size? ({file})",
        f"error: epochs: must be greater than or equal to 1; got 0 ({file})",
        'error: zoom: must be a valid number; got "x" (--set zoom=x)',
    ]


# --- steps train


def test_steps_train_takes_a_named_config_with_changes(
    run: Run, pipeline: Pipeline, trained: Trained, tmp_path: Path
) -> None:
    """The training records its config; its URI, and what it took, are written into the files."""
    changes = (*QUICK, "--set", "optimizer=sgd")
    files = ("--result", tmp_path / "uri", "--report", tmp_path / "report")
    code, out, _ = run("steps", "train", "--dataset", trained.dataset, *changes, *files)
    assert code == 0
    assert (tmp_path / "uri").read_text() == out.strip()
    report = json.loads((tmp_path / "report").read_text())
    assert report["stage"] == "train"
    assert report["compute_s"] > 0
    config = read_training(pipeline.objects, out.strip()).model.config
    assert (config.rotate, config.epochs, config.optimizer) == (0, 1, "sgd")


def test_steps_train_takes_json_in_an_argument(run: Run, pipeline: Pipeline, trained: Trained) -> None:
    """Airflow passes it so."""
    text = '{"epochs": 1, "batch_size": 320}'
    code, out, _ = run("steps", "train", "--dataset", trained.dataset, "--config-json", text)
    assert code == 0
    assert read_training(pipeline.objects, out.strip()).model.config.batch_size == 320


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "kernel-sizes"], "sweep: a single training is expected here, not a sweep"),
        (["--config", "plain", "--config-json", "{}"], "cannot both be given"),
        (["--config-json", "[1]"], "--config-json: expected an object of fields; got [1]"),
        (["--config-json", "{"], "--config-json: not JSON"),
        (["--config-json", '{"epochs": 0}'], "epochs: must be greater than or equal to 1; got 0"),
    ],
)
def test_steps_train_refuses_anything_but_one_valid_config(
    run: Run, arguments: list[str], words: str
) -> None:
    """Exit code 2."""
    code, out, err = run("steps", "train", "--dataset", "s3://b/x.json", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_steps_train_finds_a_result_file_that_it_cannot_write_before_it_trains(
    run: Run, trained: Trained, pipeline: Pipeline, tmp_path: Path
) -> None:
    """Exit code 2: a missing folder, or a folder in place of the file."""
    before = dict(pipeline.objects.objects)
    for path, why in {
        tmp_path / "none" / "uri": "No such file or directory",
        tmp_path: "Is a directory",
    }.items():
        for option in ("--result", "--report"):
            code, out, err = run("steps", "train", "--dataset", trained.dataset, *QUICK, option, path)
            assert (code, out, err) == (2, "", f"error: {option} {path}: {why}\n")
    assert pipeline.objects.objects == before


@pytest.mark.usefixtures("pipeline")
def test_a_training_that_fails_leaves_no_result_file(run: Run, tmp_path: Path) -> None:
    """Nor does it empty one of an earlier training."""
    (tmp_path / "old").write_text("uri")
    for name in ("new", "old"):
        assert (
            run("steps", "train", "--dataset", "memory://objects/none", "--result", tmp_path / name)[0] != 0
        )
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "old").read_text() == "uri"


# --- experiments sweep


def test_a_sweep_trains_every_trial_and_names_the_winner(
    run: Run, pipeline: Pipeline, trained: Trained
) -> None:
    """As JSON: the table and its URI."""
    grid = ("--set", "sweep.learning_rate=[1e-6, 0.01]")
    code, out, _ = run("experiments", "sweep", trained.dataset, *QUICK, *grid, "--json")
    document = json.loads(out)
    choice = read_choice(pipeline.objects, document["sweep"])
    assert code == 0
    assert [row["differences"] for row in document["trials"]] == [
        {"learning_rate": 1e-6},
        {"learning_rate": 0.01},
    ]
    assert document["winner"] == choice.winner == choice.trials[1].training
    assert choice.trials[1].validation_accuracy > choice.trials[0].validation_accuracy


def test_without_json_a_sweep_prints_its_table(run: Run, pipeline: Pipeline, trained: Trained) -> None:
    """One row for each trial, and the winner's URI in the last line."""
    sweep = ("experiments", "sweep", trained.dataset, *QUICK, "--set")
    code, out, _ = run(*sweep, "sweep.network=[lenet5]")
    assert code == 2  # invalid JSON: names in a list need quotation marks
    code, out, _ = run(*sweep, 'sweep.network=["lenet5","mnistnet"]')
    lines = out.splitlines()
    assert code == 0
    assert "network" in lines[0].split()
    assert [sum(name in line for line in lines) for name in ('"lenet5"', '"mnistnet"', "61,706")] == [1, 1, 1]
    assert read_training(pipeline.objects, lines[-1].removeprefix("winner ")).model.config.epochs == 1


@pytest.mark.usefixtures("pipeline")
def test_a_trial_that_fails_is_left_out(run: Run, trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    """The winner is one of the others, the log has the error, and the exit code is 1."""
    grid = ("--set", "sweep.learning_rate=[10, 0.01]")
    code, out, _ = run("experiments", "sweep", trained.dataset, *QUICK, *DIVERGING, *grid, "--json")
    assert code == 1
    assert len(json.loads(out)["trials"]) == 1
    assert "trial 1 failed: the training loss became" in caplog.text


def test_the_error_of_a_trial_is_logged_in_short_lines(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A URI stays whole, so that people can copy it."""
    uri = f"s3://bucket/{'key' * 40}.json"

    def fail(*_: object) -> str:
        raise Permanent(f"{uri}: " + "its digest is another one; " * 5)

    monkeypatch.setattr("mnist_ops.cli._support.trials.train_with_progress", fail)
    with pytest.raises(Permanent):
        train_trials(pipeline.steps(), "s3://b/x.json", [TrainingConfig(), TrainingConfig(epochs=1)])
    lines = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert lines[:2] == ["trial 1 failed:", f"  {uri}:"]
    assert all(len(line) < 100 for line in lines if uri not in line)


@pytest.mark.usefixtures("pipeline")
def test_a_sweep_whose_trials_all_fail_fails(run: Run, trained: Trained) -> None:
    """With the error of the first trial."""
    grid = ("--set", "sweep.learning_rate=[10, 9]")
    code, out, err = run("experiments", "sweep", trained.dataset, *QUICK, *DIVERGING, *grid)
    assert (code, out) == (3, "")
    assert err.startswith("error: the training loss became")


# --- runs train


def test_runs_train_releases_the_winner_of_its_sweep(run: Run, pipeline: Pipeline) -> None:
    """Snapshot, fetch, build, two trials, evaluate, release."""
    grid = ("--set", "sweep.learning_rate=[1e-6, 0.01]")
    code, out, _ = run("runs", "train", *QUICK, *grid, "--json")
    result = json.loads(out)
    (model,) = pipeline.models.models(MODEL)
    assert code == 0
    assert result["promoted"]
    assert read_training(pipeline.objects, model.training).model.config.learning_rate == 0.01


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_runs_train_without_a_labelled_record_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    """With --json as an object, with the keys of a gate's result."""
    monkeypatch.setattr(wiring, "adapters_of_environment", lambda settings, _: empty.adapters(settings))
    empty = Pipeline(load=lambda *_: None)
    code, out, _ = run("runs", "train", *QUICK, *option)
    assert code == 0
    result = json.loads(out) if option else {"why": out.strip()}
    assert result.pop("why") == "no record has a human label, so there is nothing to train on"
    assert result == ({"bundle": None, "promote": False, "promoted": False} if option else {})


def test_one_trial_is_trained_without_a_table(pipeline: Pipeline, trained: Trained, tmp_path: Path) -> None:
    """There is nothing to choose."""
    config = TrainingConfig(epochs=1, batch_size=320)
    steps = pipeline.steps(training_dir=tmp_path, trackers=frozenset({"sqlite"}))
    uri = best_training(steps, trained.dataset, [config])
    assert read_training(pipeline.objects, uri).model.config == config
    assert not [key for key in pipeline.objects.objects if "/sweep-" in key]


# --- models test and release


def test_test_prints_the_measures_of_any_epoch(run: Run, pipeline: Pipeline, trained: Trained) -> None:
    """Without --epoch, those of the kept weights."""
    kept = read_training(pipeline.objects, trained.training).model.best.epoch
    documents = {}
    for epoch in (1, 2, None):
        named = () if epoch is None else ("--epoch", epoch)
        code, out, _ = run("models", "test", trained.training, *named, "--json")
        assert code == 0
        documents[epoch] = json.loads(out)
    assert documents[None]["test"] == documents[kept]["test"]
    assert documents[1]["test"]["nll"] != documents[2]["test"]["nll"]
    assert read_training(pipeline.objects, documents[1]["training"]).model.best.epoch == 1


def test_test_without_json_prints_the_measures_in_two_columns(
    run: Run, pipeline: Pipeline, trained: Trained
) -> None:
    """Nothing is registered."""
    code, out, _ = run("models", "test", trained.training)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "accuracy",
        "NLL",
        "Brier",
        "ECE",
        "temperature",
    ]
    assert not pipeline.models.models(MODEL)


def test_test_also_prints_the_champion(
    run: Run, released: Pipeline, pipeline: Pipeline, trained: Trained
) -> None:
    """On the same test fold."""
    pipeline.models, pipeline.objects = released.copy().models, released.copy().objects
    _, out, _ = run("models", "test", trained.training, "--epoch", 1)
    assert out.splitlines()[-1].startswith("champion     version 1: accuracy 0.")


def test_release_makes_a_bundle_of_any_epoch(run: Run, pipeline: Pipeline, trained: Trained) -> None:
    """The gate decides whether it becomes champion."""
    code, out, _ = run("models", "release", trained.training, "--epoch", 1, "--json")
    (model,) = pipeline.models.models(MODEL)
    result = json.loads(out)
    assert code == 0
    assert result["promoted"]
    assert result["bundle"]["digest"] == model.bundle.digest
    assert read_training(pipeline.objects, model.training).model.best.epoch == 1


def test_without_json_release_says_what_became_of_the_model(
    run: Run, pipeline: Pipeline, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that waits for a person comes with the command that promotes it."""
    monkeypatch.setenv("MNIST_OPS_REQUIRE_APPROVAL", "true")
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = run("models", "release", trained.training)
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert (facts["model"], facts["status"]) == (f"{MODEL} 1", "candidate")
    assert out.splitlines()[-1] == 'to make it the champion: mnist-ops models promote 1 --why "…"'
    assert pipeline.models.champion(MODEL) is None


@pytest.mark.parametrize("command", ["test", "release"])
def test_an_epoch_without_a_checkpoint_is_refused(
    run: Run, pipeline: Pipeline, trained: Trained, command: str
) -> None:
    """The error lists the epochs that have one."""
    code, out, err = run("models", command, trained.training, "--epoch", 99)
    assert (code, out) == (2, "")
    assert "no epoch 99; there are 1 to 2" in err
    assert not pipeline.models.models(MODEL)
