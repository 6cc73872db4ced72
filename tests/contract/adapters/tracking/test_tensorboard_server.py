"""`mnist-ops experiments tensorboard` as a browser uses it: the real server on a real training."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_ops.domain.labels import DIGITS
from mnist_ops.local.sample_digits import load
from mnist_ops.settings import Settings
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.training.tracking import Experiment
from mnist_ops.vision.training.tracking_callback import tracked
from mnist_ops.vision.training.trainer import train
from mnist_ops.wiring import tracker_of

RUN = "mnistnet-contract"
DIGITS_SHOWN = 200
AT = datetime(2026, 11, 21, tzinfo=UTC)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_OPS_")}

Get = Callable[..., bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training folder."""
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def trained(folder: Path) -> TrainedModel:
    """One epoch on sample digits, tracked with the default settings."""
    images, labels = load("train")
    config = TrainingConfig(network="mnistnet", epochs=1, batch_size=16)
    experiment = Experiment(RUN, AT, config.model_dump(mode="json"), "sha256:" + "a" * 64, "cpu")
    with tracked(tracker_of(Settings(training_dir=folder)), experiment, lambda: AT) as callback:
        return train(
            Examples(images[:1600], labels[:1600]),
            Examples(images[-DIGITS_SHOWN:], labels[-DIGITS_SHOWN:]),
            config,
            torch.device("cpu"),
            callback,
        )


@pytest.fixture(scope="module")
def get(folder: Path, trained: TrainedModel) -> Iterator[Get]:
    """A function that requests data from a TensorBoard started by the command line."""
    assert trained.best.epoch == 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mnist_ops", "experiments", "tensorboard", "--port", str(port)]
    environment = {**ENVIRONMENT, "MNIST_OPS_TRAINING_DIR": str(folder)}

    def ask(path: str, **query: str) -> bytes:
        url = f"http://127.0.0.1:{port}/data/plugin/{path}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            found: bytes = answer.read()
            return found

    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_for(ask)
        yield ask
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(ask: Get) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if json.loads(ask("scalars/tags")):
                return
        except OSError:
            pass  # not up yet
        time.sleep(0.2)
    pytest.fail("TensorBoard showed no run")


def test_the_projector_knows_the_run_and_its_tensor(get: Get, trained: TrainedModel) -> None:
    """With shape, labels and sprite."""
    assert json.loads(get("projector/runs")) == [RUN]
    (embedding,) = json.loads(get("projector/info", run=RUN))["embeddings"]
    assert embedding["tensorName"] == f"validation:{trained.best_step:05d}"
    assert embedding["tensorShape"] == [DIGITS_SHOWN, 84]
    assert embedding["sprite"]["singleImageDim"] == [28, 28]


def test_the_projector_serves_the_points_with_labels_and_pictures(get: Get, trained: TrainedModel) -> None:
    """One of each per digit."""
    name = f"validation:{trained.best_step:05d}"
    vectors = np.frombuffer(get("projector/tensor", run=RUN, name=name), np.float32).reshape(-1, 84)
    assert len(vectors) == DIGITS_SHOWN
    assert np.isfinite(vectors).all()
    assert vectors.std() > 0
    labels = get("projector/metadata", run=RUN, name=name).decode().splitlines()
    assert labels == [DIGITS.name(int(label)) for label in load("train")[1][-DIGITS_SHOWN:]]
    with Image.open(BytesIO(get("projector/sprite_image", run=RUN, name=name))) as sprite:
        assert sprite.size == (15 * 28, 15 * 28)


def test_scalars_are_served(get: Get, trained: TrainedModel) -> None:
    """With the value from the training."""
    series: list[list[Any]] = json.loads(get("scalars/scalars", run=RUN, tag="validation/accuracy"))
    assert [point[1:] for point in series] == [[100, pytest.approx(trained.best.validation_accuracy)]]


def test_the_graph_is_served(get: Get) -> None:
    """As the text that the page renders."""
    graph = get("graphs/graph", run=RUN, limit_attr_size="1024", large_attrs_key="large").decode()
    assert "Conv2d" in graph
    assert "Linear" in graph


def test_hyperparameters_and_metrics_are_a_table(get: Get) -> None:
    """The request is that of the page; values may be texts."""
    body = json.dumps({"experimentName": "", "includeMetrics": True})
    found = json.loads(get("hparams/experiment", request=body))
    named = {info["name"]: info for info in found["hparamInfos"]}
    assert named["network"]["domainDiscrete"] == ["mnistnet"]
    assert named["epochs"]["type"] == "DATA_TYPE_FLOAT64"
    metrics = {info["name"]["tag"] for info in found["metricInfos"]}
    assert "best/validation_accuracy" in metrics


def test_a_port_in_use_is_an_error_of_one_line(folder: Path, trained: TrainedModel) -> None:
    """With the port, and the exit code of a permanent error."""
    assert trained.best.epoch == 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "mnist_ops", "experiments", "tensorboard", "--port", str(port)],
            env={**ENVIRONMENT, "MNIST_OPS_TRAINING_DIR": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert f"error: TensorBoard did not start on 127.0.0.1:{port}" in done.stderr
