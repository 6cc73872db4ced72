"""The MLflow tracker against MLflow's own REST server on a file store; its own client reads the runs back.

`mlflow-skinny` cannot start `mlflow server`, but its application runs with Flask alone.
"""

import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.telemetry import get_telemetry_client
from PIL import Image

from mnist_ops.adapters.tracking.mlflow import MlflowTracker
from mnist_ops.settings import Settings
from mnist_ops.vision.models.architectures import build_network
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Status, Trackers
from mnist_ops.wiring import tracker_of

AT = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
AT_MS = int(AT.timestamp() * 1000)
DATASET = "sha256:" + "a" * 64
SERVER = """
import sys
from mlflow.server import app
from werkzeug.serving import make_server
make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()
"""


def experiment(name: str) -> Experiment:
    """Return an experiment."""
    config = {"network": "lenet5", "epochs": 2, "kernel_sizes": None}
    return Experiment(name, AT, config, DATASET, "cpu", {"torch": "2.15"})


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty MLflow tracking server."""
    store, port = tmp_path_factory.mktemp("mlflow"), free_port()
    environment = {
        **os.environ,
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SERVER_FILE_STORE": f"file://{store}/runs",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"file://{store}/artifacts",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    log = store / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)], env=environment, stdout=output, stderr=output
        )
    try:
        _until_up(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            pytest.fail(log.read_text(encoding="utf-8"))
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"MLflow did not start: {log.read_text(encoding='utf-8')}")


@pytest.fixture
def client(uri: str) -> MlflowClient:
    """MLflow's own client."""
    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def tracker(uri: str) -> MlflowTracker:
    """A tracker with a fixed clock."""
    return MlflowTracker(uri, "digits", now_ms=lambda: AT_MS + 1000)


def run_of(client: MlflowClient, name: str) -> Any:
    """Return the one run of a training."""
    group = client.get_experiment_by_name("digits")
    assert group is not None
    (run,) = client.search_runs([group.experiment_id], f"attributes.run_name = '{name}'")
    return run


def test_a_training_is_a_run_with_its_config_and_environment(
    tracker: MlflowTracker, client: MlflowClient
) -> None:
    """Under its own name, in the MLflow experiment of the group."""
    tracker.begin(experiment("begun"))
    run = run_of(client, "begun")
    assert run.data.params == {"network": "lenet5", "epochs": "2", "kernel_sizes": "None"}
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    assert tags == {
        "mnist_ops.experiment": "begun",
        "dataset": DATASET,
        "device": "cpu",
        "environment.torch": "2.15",
    }
    assert (run.info.status, run.info.start_time) == ("RUNNING", AT_MS)


def test_all_numbers_are_stored_at_their_steps(tracker: MlflowTracker, client: MlflowClient) -> None:
    """Scalars, queues and final metrics; more of them than one request holds."""
    tracker.begin(experiment("measured"))
    for step in range(1, 151):
        tracker.scalars(step, {"train/loss": 1 / step})
    tracker.queues(150, {"train/loss": QueueSummary(3, 0.5, 0.1, 0.4, 0.6)})
    tracker.hparams({}, {"best/validation_accuracy": 0.99})
    tracker.finish(Outcome(Status.FINISHED, AT + timedelta(seconds=5), 2))
    run = run_of(client, "measured")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(s, 1 / s) for s in range(1, 151)]
    assert {metric.timestamp for metric in history} == {AT_MS + 1000}
    assert run.data.metrics["queues/train/loss/max"] == 0.6
    assert run.data.metrics["best/validation_accuracy"] == 0.99
    assert (run.info.status, run.info.end_time) == ("FINISHED", AT_MS + 5000)
    assert run.data.tags["best_epoch"] == "2"


def test_a_training_that_fails_says_why(tracker: MlflowTracker, client: MlflowClient) -> None:
    """Also if the error is longer than a tag may be."""
    tracker.begin(experiment("failed"))
    tracker.finish(Outcome(Status.FAILED, AT, why="no memory " * 2000))
    run = run_of(client, "failed")
    assert run.info.status == "FAILED"
    assert run.data.tags["why"].startswith("no memory no memory")


def test_a_resumed_training_continues_its_run(tracker: MlflowTracker, client: MlflowClient, uri: str) -> None:
    """The run has the status running again."""
    tracker.begin(experiment("resumed"))
    tracker.scalars(1, {"train/loss": 1.0})
    tracker.finish(Outcome(Status.INTERRUPTED, AT))
    assert run_of(client, "resumed").info.status == "KILLED"
    again = MlflowTracker(uri, "digits")
    again.begin(experiment("resumed"))
    assert run_of(client, "resumed").info.status == "RUNNING"
    again.scalars(2, {"train/loss": 0.5})
    again.finish(Outcome(Status.FINISHED, AT))
    run = run_of(client, "resumed")
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]


def test_the_sample_and_the_layers_are_artifacts(
    tracker: MlflowTracker, client: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image and a text; nothing is printed to standard output."""
    tracker.begin(experiment("shown"))
    tracker.images(0, "training/sample", np.zeros((3, 28, 28), dtype=np.uint8), ["zero", "one", "two"])
    tracker.graph(build_network("lenet5"), torch.zeros(1, 1, 32, 32))
    tracker.finish(Outcome(Status.FINISHED, AT, 1))
    assert capsys.readouterr().out == ""
    run_id = run_of(client, "shown").info.run_id
    picture = Path(client.download_artifacts(run_id, "training/sample-00000.png", str(tmp_path)))
    with Image.open(BytesIO(picture.read_bytes())) as image:
        assert image.size == (604, 78)
    layers = Path(client.download_artifacts(run_id, "graph.txt", str(tmp_path))).read_text(encoding="utf-8")
    assert layers.count("Conv2d") == 2


def test_an_unreachable_server_drops_the_tracker_and_not_the_training(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 30 seconds."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    started = time.monotonic()
    trackers = Trackers([MlflowTracker(f"http://127.0.0.1:{free_port()}", "digits")])
    with caplog.at_level(logging.WARNING, logger="mnist_ops"):
        trackers.begin(experiment("lost"))
        trackers.scalars(1, {"train/loss": 0.5})
        trackers.finish(Outcome(Status.FINISHED, AT, 1))
    assert trackers.active == ()
    assert caplog.text.count("tracker mlflow is dropped") == 1
    assert time.monotonic() - started < 30


def test_the_settings_lead_to_the_server(uri: str, client: MlflowClient, tmp_path: Path) -> None:
    """The experiment has the name of the model."""
    settings = Settings(
        training_dir=tmp_path, trackers="mlflow", mlflow_tracking_uri=uri, model_name="lenet5-settings"
    )
    tracker_of(settings).begin(experiment("wired"))
    assert client.get_experiment_by_name("lenet5-settings") is not None


def test_telemetry_of_mlflow_is_off(tracker: MlflowTracker) -> None:
    """The environment of a training stays private."""
    tracker.begin(experiment("private"))
    assert get_telemetry_client() is None
