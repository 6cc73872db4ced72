"""Training with its progress shown, a bar on a terminal, a line an epoch in a log, and tracked."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ops.domain.ports import ObjectStore
    from mnist_ops.settings import Settings
    from mnist_ops.vision.config.schema import TrainingConfig
    from mnist_ops.vision.training.callbacks import Watcher


def train_with_progress(
    dataset_uri: str, objects: "ObjectStore", config: "TrainingConfig", settings: "Settings"
) -> str:
    """Train on a data set; returns the training's URI.

    Args:
        dataset_uri: the data set's manifest.
        objects: where it lies.
        config: the hyperparameters.
        settings: name the device, the trackers, and where checkpoints lie.
    """
    from mnist_ops.steps.artifacts.datasets import dataset_digest
    from mnist_ops.steps.train import train
    from mnist_ops.vision.training.callbacks import Watchers
    from mnist_ops.vision.training.tracking import Experiment, experiment_name
    from mnist_ops.vision.training.tracking_callback import environment_of, tracked
    from mnist_ops.vision.training.trainer import pick_device
    from mnist_ops.wiring import tracker_of

    device, values = pick_device(settings.device), config.model_dump(mode="json")
    experiment = Experiment(
        name=experiment_name(config.network, dataset_uri, values),
        started_at=_now(),
        config=values,
        dataset=dataset_digest(dataset_uri),
        device=device.type,
        environment=environment_of(device),
    )
    with _shown(config.epochs) as shown, tracked(tracker_of(settings), experiment, _now) as tracking:
        return train(
            dataset_uri,
            objects=objects,
            config=config,
            device=device.type,
            watcher=Watchers([shown, tracking]),
            folder=settings.training_dir,
        )


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _shown(epochs: int) -> Iterator["Watcher"]:
    from mnist_ops.cli.progress_bar import TrainingLog, training_bar

    if sys.stderr.isatty():
        with training_bar(epochs) as bar:
            yield bar
    else:
        yield TrainingLog()
