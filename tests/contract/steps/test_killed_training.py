"""A trainer's process is killed in the middle of an epoch, and the next one goes on: on a real S3 store."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.steps.artifacts.objects import get_json
from tests.support.pipeline_in_memory import Loader, Pipeline, label_of, png_of, url_of

BUCKET = "trainings"
EPOCHS = 4
CONFIG = {"epochs": EPOCHS, "batch_size": 4, "seed": 5}
DIGITS = 900


class Trainer:
    """Runs `mnist-ops step train` in a process of its own.

    Args:
        folder: for results, checkpoints and logs.
        environment: of the process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = {**environment, "MNIST_OPS_TRAINING_DIR": str(folder)}

    def start(self, dataset: str) -> subprocess.Popen[str]:
        """Start training; what it says is read through a pipe."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "mnist_ops", "step", "train", "--dataset", dataset),
                *("--config-json", json.dumps(CONFIG), "--result", str(self.folder / "result")),
            ],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_in_epoch(self, dataset: str, epoch: int, share: float) -> None:
        """Start, wait until a share of an epoch is done, and kill -9."""
        with self.start(dataset) as process:
            lines = iter(process.stderr.readline, "")
            before = None
            for line in lines:
                if f"epoch {epoch - 1}:" in line or (epoch == 1 and "training lenet5" in line):
                    before = time.monotonic()
                    break
            assert before is not None, "the trainer never came to that epoch"
            time.sleep(share * 0.3)  # an epoch takes 0.3 seconds and more
            process.kill()
            process.wait()
        assert process.returncode == -9

    def finish(self, dataset: str) -> tuple[str, list[str]]:
        """Train to the end; returns the training's URI and the lines it said."""
        with self.start(dataset) as process:
            lines = process.stderr.readlines()
        assert process.returncode == 0, "".join(lines)
        return (self.folder / "result").read_text(), lines


@pytest.fixture(scope="module")
def environment(embedded) -> dict[str, str]:
    """The environment of a trainer: S3 alone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return inherited | {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws", **embedded.connections["aws_default"]}),
        "MNIST_OPS_S3_BUCKET": BUCKET,
        "MNIST_OPS_DEVICE": "cpu",
        "MNIST_OPS_TRACKERS": "sqlite",
    }


@pytest.fixture(scope="module")
def objects(s3_clients) -> S3Objects:
    """The bucket of the trainings."""
    store = S3Objects(s3_clients("seaweedfs"), BUCKET, "")
    store.ensure_bucket()
    return store


@pytest.fixture(scope="module")
def dataset(objects) -> Iterator[str]:
    """A data set of labelled sample digits, built by the real steps."""
    pipeline = Pipeline(Loader(), objects=objects)
    for number in range(DIGITS):
        url = url_of(number)
        pipeline.images.images[url] = png_of(number, "train")
        pipeline.add(number, image_url=url, label=label_of(number, "train"))
    return pipeline.dataset()


@pytest.mark.timeout(600)
def test_a_trainer_killed_at_three_random_points_gives_the_same_weights(
    tmp_path, environment, objects, dataset
) -> None:
    """Each time the next process goes on after the last whole epoch."""
    whole = Trainer(tmp_path / "whole", environment | {"MNIST_OPS_S3_PREFIX": "whole"})
    killed = Trainer(tmp_path / "killed", environment)
    for trainer in (whole, killed):
        trainer.folder.mkdir()
    expected = get_json(objects, whole.finish(dataset)[0])
    chance = random.Random(0)
    for epoch in (1, 2, 3):
        killed.kill_in_epoch(dataset, epoch, chance.random())
    uri, lines = killed.finish(dataset)
    training = get_json(objects, uri)
    assert any("training resumes after epoch" in line for line in lines)
    assert str(training["weights"]).rpartition("/")[2] == str(expected["weights"]).rpartition("/")[2]
    assert training["history"] == expected["history"]
    assert len(training["checkpoints"]) == EPOCHS
    assert not list((tmp_path / "killed").rglob("epoch-*")), "checkpoints stay on the disk of a finished one"


def test_a_trainer_that_lost_its_disk_goes_on_from_the_object_store(tmp_path, environment, dataset) -> None:
    """Another machine takes over."""
    prefix = {"MNIST_OPS_S3_PREFIX": "moved"}
    first, second = (Trainer(tmp_path / name, environment | prefix) for name in ("first", "second"))
    for trainer in (first, second):
        trainer.folder.mkdir()
    first.kill_in_epoch(dataset, 3, 0.5)
    _, lines = second.finish(dataset)
    assert any("training resumes after epoch" in line for line in lines)
