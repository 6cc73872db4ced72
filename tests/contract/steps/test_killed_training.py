"""A trainer's process is killed in the middle of an epoch, and the next one resumes: on a real S3 store."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
    """Runs `mnist-ops steps train` in a separate process.

    Args:
        folder: for results, checkpoints and logs.
        environment: of the process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = {**environment, "MNIST_OPS_TRAINING_DIR": str(folder)}

    def start(self, dataset: str) -> subprocess.Popen[str]:
        """Start training; its output is read through a pipe."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "mnist_ops", "steps", "train", "--dataset", dataset),
                *("--config-json", json.dumps(CONFIG), "--result", str(self.folder / "result")),
            ],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_in_epoch(self, dataset: str, epoch: int, share: float) -> list[str]:
        """Start, wait until a share of an epoch is done, and kill -9; returns the lines it wrote before."""
        lines = []
        before_it = f"epoch {epoch - 1}:" if epoch > 1 else "training lenet5"
        with self.start(dataset) as process:
            for line in iter(process.stderr.readline, ""):
                lines.append(line)
                if before_it in line:
                    break
            assert before_it in lines[-1], "the trainer never came to that epoch"
            self._wait_for_checkpoint(process, epoch - 1)
            time.sleep(share * 0.3)  # a point in the epoch, which takes 0.3 seconds and more
            process.kill()
        assert process.returncode == -9
        return lines

    def _wait_for_checkpoint(self, process: subprocess.Popen[str], epoch: int) -> None:
        """Wait until an epoch's checkpoint is on the disk; there is none of epoch 0."""
        while epoch and not list(self.folder.rglob(f"epoch-{epoch:06d}-*.safetensors")):
            assert process.poll() is None, "the trainer ended before it was killed"
            time.sleep(0.01)

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


@pytest.fixture(scope="module")
def uninterrupted(environment, dataset, tmp_path_factory) -> tuple[str, Path]:
    """A training that nothing interrupts: its URI, and its folder on the disk."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    uri, _ = Trainer(folder, environment | {"MNIST_OPS_S3_PREFIX": "uninterrupted"}).finish(dataset)
    return uri, folder


@dataclass(frozen=True)
class Killed:
    """A training whose process was killed three times, in epochs 1, 2 and 3, and its end on another disk.

    Attributes:
        third: the lines of the third process, which resumes from the same disk.
        last: the lines of the last one, which has another disk.
        uri: of the training.
        folder: the last one's.
    """

    third: list[str]
    last: list[str]
    uri: str
    folder: Path


@pytest.fixture(scope="module")
def killed(environment, dataset, tmp_path_factory) -> Killed:
    """That training, killed at points that a seeded generator chooses."""
    disk, other_disk = (
        Trainer(tmp_path_factory.mktemp(name), environment | {"MNIST_OPS_S3_PREFIX": "killed"})
        for name in ("disk", "other-disk")
    )
    chance = random.Random(0)
    lines = [disk.kill_in_epoch(dataset, epoch, chance.random()) for epoch in (1, 2, 3)]
    uri, last = other_disk.finish(dataset)
    return Killed(lines[2], last, uri, other_disk.folder)


@pytest.mark.timeout(600)
def test_a_trainer_killed_at_three_random_points_gives_the_same_weights(
    objects, uninterrupted, killed
) -> None:
    """Each time the next process resumes after the last whole epoch."""
    expected, training = get_json(objects, uninterrupted[0]), get_json(objects, killed.uri)
    assert str(training["weights"]).rpartition("/")[2] == str(expected["weights"]).rpartition("/")[2]
    assert training["history"] == expected["history"]
    assert len(training["checkpoints"]) == EPOCHS


def test_a_trainer_resumes_after_the_last_whole_epoch_on_its_disk(killed) -> None:
    """Killed in epoch 2, it resumes after epoch 1."""
    assert any("training resumes after epoch 1" in line for line in killed.third)


def test_a_trainer_that_lost_its_disk_resumes_from_the_object_store(killed) -> None:
    """Another machine takes over."""
    assert any("training resumes after epoch" in line for line in killed.last)


def test_a_finished_training_leaves_no_checkpoint_on_the_disk(uninterrupted, killed) -> None:
    """They are in the object store."""
    assert not [path for folder in (uninterrupted[1], killed.folder) for path in folder.rglob("epoch-*")]
