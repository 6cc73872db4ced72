"""A finished training as it is stored: read without torch."""

from dataclasses import dataclass

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.datasets import Dataset, read_dataset
from mnist_ops.steps.artifacts.objects import get_json, get_verified, read_manifest
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.models.trained_model import EpochMetrics, TrainedModel


@dataclass(frozen=True, slots=True)
class Training:
    """A finished training, as it is stored.

    Attributes:
        uri: the URI of its description.
        dataset_uri: the URI of the data set's manifest.
        dataset: the data set.
        generation: the generation that it belongs to.
        model: the trained network.
        device: cpu or cuda.
        checkpoints: the URIs of its checkpoints, one an epoch.
    """

    uri: str
    dataset_uri: str
    dataset: Dataset
    generation: Generation
    model: TrainedModel
    device: str
    checkpoints: tuple[str, ...]


def read_training(objects: ObjectStore, uri: str) -> Training:
    """Read a training with its weights, verified."""
    document = get_json(objects, uri)
    try:
        dataset_uri = str(document["dataset"])
        model = TrainedModel(
            config=TrainingConfig.model_validate(document["config"]),
            weights=get_verified(objects, str(document["weights"])),
            history=tuple(EpochMetrics(**metrics) for metrics in document["history"]),
            best_step=int(document["best_step"]),
            parameters=int(document["parameters"]),
        )
        device, checkpoints = str(document["device"]), tuple(map(str, document["checkpoints"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{uri}: not a training ({error!r})") from error
    dataset = read_dataset(objects, dataset_uri)
    generation = read_manifest(objects, dataset.snapshot).generation
    return Training(uri, dataset_uri, dataset, generation, model, device, checkpoints)
