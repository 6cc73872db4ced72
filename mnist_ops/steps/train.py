"""Train: a data set becomes weights."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import Generation, artifact_key, digest_in_name, sha256_hex
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts import get_json, get_verified, put_json, read_manifest
from mnist_ops.steps.datasets import Dataset, load_fold, read_dataset
from mnist_ops.vision import training
from mnist_ops.vision.folds import Fold
from mnist_ops.vision.training import EpochMetrics, TrainedModel
from mnist_ops.vision.training_config import TrainingConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Training:
    """A finished training, as it lies in the object store.

    Attributes:
        uri: of its description.
        dataset_uri: of the data set's manifest.
        dataset: that data set.
        generation: whose it is.
        model: the trained network.
    """

    uri: str
    dataset_uri: str
    dataset: Dataset
    generation: Generation
    model: TrainedModel


def train(
    dataset_uri: str,
    *,
    objects: ObjectStore,
    config: TrainingConfig,
    device: str,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
) -> str:
    """Train a network on a data set's train fold, keeping the epoch that validates best.

    Args:
        dataset_uri: the data set's manifest.
        objects: where everything lies.
        config: the hyperparameters.
        device: auto, cpu or cuda.
        on_epoch: called after every epoch.

    Returns:
        The URI of the training's description.

    Raises:
        Permanent: a fold is empty, or the loss is no longer finite.
    """
    dataset = read_dataset(objects, dataset_uri)
    generation = read_manifest(objects, dataset.snapshot).generation
    watch = Stopwatch("train", objects.requests)
    with watch.reading():
        examples = load_fold(objects, dataset, Fold.TRAIN)
        held_out = load_fold(objects, dataset, Fold.VALIDATION)
    with watch.computing():
        chosen = training.pick_device(device)
        _log.info("training %s on %s with %d digits", config.network, chosen, len(examples))
        model = training.train(examples, held_out, config, chosen, on_epoch)
    weights_key = artifact_key("trainings", generation, "weights.safetensors", sha256_hex(model.weights))
    weights_uri = objects.put_bytes(weights_key, model.weights)
    watch.report(len(examples) * config.epochs)
    return put_json(
        objects,
        lambda digest: artifact_key("trainings", generation, "training.json", digest),
        {
            "dataset": dataset_uri,
            "config": config.model_dump(mode="json"),
            "weights": weights_uri,
            "history": [asdict(metrics) for metrics in model.history],
            "best_epoch": model.best_epoch,
            "device": str(chosen),
        },
    )


def read_training(objects: ObjectStore, uri: str) -> Training:
    """Read a training with its weights, verified."""
    document = get_json(objects, uri)
    try:
        dataset_uri, weights_uri = str(document["dataset"]), str(document["weights"])
        history: list[dict[str, float]] = document["history"]  # type: ignore[assignment]
        model = TrainedModel(
            config=TrainingConfig.model_validate(document["config"]),
            weights=get_verified(objects, weights_uri),
            history=tuple(EpochMetrics(**metrics) for metrics in history),  # type: ignore[arg-type]
            best_epoch=int(str(document["best_epoch"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{uri}: not a training ({error!r})") from error
    dataset = read_dataset(objects, dataset_uri)
    return Training(uri, dataset_uri, dataset, read_manifest(objects, dataset.snapshot).generation, model)


def training_digest(training_uri: str) -> str:
    """`sha256:<hex>` of a training's description, which names data set, config and weights."""
    return f"sha256:{digest_in_name(training_uri)}"
