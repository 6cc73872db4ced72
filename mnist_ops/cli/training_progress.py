"""Training with its progress shown: a bar on a terminal, a line an epoch in a log."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_ops.domain.ports import ObjectStore
    from mnist_ops.vision.training import EpochMetrics

_log = logging.getLogger(__name__)


def train_with_progress(dataset_uri: str, objects: "ObjectStore", config_json: str, device: str) -> str:
    """Train on a data set; returns the training's URI.

    Args:
        dataset_uri: the data set's manifest.
        objects: where it lies.
        config_json: hyperparameters as a JSON object.
        device: auto, cpu or cuda.
    """
    from mnist_ops.steps.train import train
    from mnist_ops.vision.training_config import TrainingConfig
    from mnist_ops.vision.training_progress import training_bar

    config = TrainingConfig.model_validate_json(config_json)
    watched = training_bar if sys.stderr.isatty() else _logged
    with watched(config.epochs) as on_epoch:
        return train(dataset_uri, objects=objects, config=config, device=device, on_epoch=on_epoch)


@contextmanager
def _logged(epochs: int) -> Iterator[Callable[["EpochMetrics"], None]]:
    from mnist_ops.vision.training_progress import describe

    def on_epoch(metrics: "EpochMetrics") -> None:
        _log.info("%s (of %d)", describe(metrics), epochs)

    yield on_epoch
