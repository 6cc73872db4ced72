"""Train: a data set becomes weights."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mnist_ops.domain.errors import Damaged, UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.checkpoints import StoredCheckpoints, epoch_in_name
from mnist_ops.steps.artifacts.datasets import Dataset, load_fold, read_dataset
from mnist_ops.steps.artifacts.objects import get_json, get_verified, put_artifact, put_json, read_manifest
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.models.trained_model import EpochMetrics, TrainedModel
from mnist_ops.vision.models.weights import weights_of
from mnist_ops.vision.training import trainer as training
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.checkpoint import checkpoint_of

_log = logging.getLogger(__name__)


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


def train(
    dataset_uri: str,
    *,
    objects: ObjectStore,
    config: TrainingConfig,
    device: str,
    folder: Path,
    callback: TrainingCallback | None = None,
) -> str:
    """Train a network on a data set's train fold, and keep the weights that are best on the validation fold.

    After it was killed, a repeated call continues from the last complete epoch.

    Args:
        dataset_uri: the data set's manifest.
        objects: the store of data sets and trainings.
        config: the hyperparameters.
        device: auto, cpu or cuda.
        folder: a local folder for checkpoints.
        callback: called at every event of the training.

    Returns:
        The URI of the training's description.

    Raises:
        Permanent: a fold is empty, or the loss is no longer finite.
    """
    dataset = read_dataset(objects, dataset_uri)
    generation = read_manifest(objects, dataset.snapshot).generation
    checkpoints = StoredCheckpoints(objects, generation, dataset_uri, config, folder)
    watch = Stopwatch("train", objects.requests, objects.moved)
    with watch.reading():
        examples = load_fold(objects, dataset, Fold.TRAIN)
        held_out = load_fold(objects, dataset, Fold.VALIDATION)
    with watch.computing():
        chosen = training.pick_device(device)
        if chosen.type == "cuda":
            watch.gpu_taken()
        _log.info("training %s on %s with %d digits", config.network, chosen, len(examples))
        model = training.train(examples, held_out, config, chosen, callback, checkpoints)
    uri = _put(objects, generation, dataset_uri, model, str(chosen), checkpoints.uris())
    checkpoints.remove_local()
    watch.report(len(examples) * model.history[-1].epoch)
    best, last = model.best, model.history[-1].epoch
    _log.info("epoch %d of %d is best: validation accuracy %.4f", best.epoch, last, best.validation_accuracy)
    return uri


def at_epoch(training_uri: str, epoch: int, *, objects: ObjectStore) -> str:
    """Describe a training with the weights of another epoch as its result.

    Args:
        training_uri: the training.
        epoch: the epoch, from 1.
        objects: the store of trainings.

    Returns:
        The URI of the description, for evaluation and release as any other.

    Raises:
        UsageError: the training has no checkpoint of that epoch.
    """
    former = read_training(objects, training_uri)
    uris = {epoch_in_name(uri): uri for uri in former.checkpoints}
    if epoch not in uris:
        raise UsageError(f"{training_uri}: no epoch {epoch}; there are 1 to {len(former.checkpoints)}")
    checkpoint = checkpoint_of(get_verified(objects, uris[epoch]))
    model = TrainedModel(
        former.model.config, weights_of(checkpoint.part("average")), checkpoint.history, checkpoint.step
    )
    return _put(objects, former.generation, former.dataset_uri, model, former.device, former.checkpoints)


def _put(
    objects: ObjectStore,
    generation: Generation,
    dataset_uri: str,
    model: TrainedModel,
    device: str,
    checkpoints: Sequence[str],
) -> str:
    document = {
        "dataset": dataset_uri,
        "config": model.config.model_dump(mode="json"),
        "weights": put_artifact(objects, "trainings", generation, "weights.safetensors", model.weights),
        "history": [asdict(metrics) for metrics in model.history],
        "best_step": model.best_step,
        "device": device,
        "checkpoints": list(checkpoints),
    }
    return put_json(objects, "trainings", generation, "training.json", document)


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
        )
        device, checkpoints = str(document["device"]), tuple(map(str, document["checkpoints"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{uri}: not a training ({error!r})") from error
    dataset = read_dataset(objects, dataset_uri)
    generation = read_manifest(objects, dataset.snapshot).generation
    return Training(uri, dataset_uri, dataset, generation, model, device, checkpoints)
