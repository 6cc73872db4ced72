"""Train: a data set becomes weights."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.checkpoints import StoredCheckpoints, epoch_in_name
from mnist_ops.steps.artifacts.datasets import load_fold, read_dataset
from mnist_ops.steps.artifacts.objects import get_verified, put_artifact, put_json, read_manifest
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.models.weights import weights_of
from mnist_ops.vision.training import trainer as training
from mnist_ops.vision.training.callbacks import TrainingCallback
from mnist_ops.vision.training.checkpoint import checkpoint_of

_log = logging.getLogger(__name__)


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
    model = replace(
        former.model,
        weights=weights_of(checkpoint.part("average")),
        history=checkpoint.history,
        best_step=checkpoint.step,
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
        "parameters": model.parameters,
        "device": device,
        "checkpoints": list(checkpoints),
    }
    return put_json(objects, "trainings", generation, "training.json", document)
