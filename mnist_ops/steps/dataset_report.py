"""Dataset report: the classes, the quarantine and the likely label errors of a data set."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.datasets import Dataset, open_rows, read_dataset
from mnist_ops.steps.artifacts.objects import put_json, read_manifest
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.training.label_errors import (
    FOLDS,
    LabelError,
    class_balance,
    likely_label_errors,
    out_of_fold_probabilities,
)
from mnist_ops.vision.training.trainer import pick_device

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The usable rows of a data set, in its order."""

    examples: Examples
    record_ids: Sequence[str]
    urls: Sequence[str]
    folds: Sequence[str]


def dataset_report(dataset_uri: str, *, objects: ObjectStore, config: TrainingConfig, device: str) -> str:
    """Count a data set's classes and quarantine, and rank the labels that are likely wrong.

    Each usable example of any fold is classified by a network that was not trained on it.

    Args:
        dataset_uri: the data set's manifest.
        objects: the store of the data set.
        config: of those networks, such as `OUT_OF_FOLD_CONFIG`; they need not be accurate.
        device: auto, cpu or cuda.

    Returns:
        The URI of a JSON object: `dataset`; `examples`, their number; `classes`, the examples by label and
        fold; `quarantined`, by reason; `out_of_fold_accuracy`; `classifiers`, the networks; `label_errors`,
        the likeliest first, each with its record's id, URL and fold, the given and the suggested label, the
        margin of their probabilities, and whether it is a confident one.

    Raises:
        Permanent: there are too few examples to train on.
    """
    dataset = read_dataset(objects, dataset_uri)
    labelled = _read(objects, dataset)
    labels = labelled.examples.labels
    probabilities = out_of_fold_probabilities(labelled.examples, config, pick_device(device))
    errors = likely_label_errors(probabilities, labels)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    _log.info(
        "%d of %d labels are likely wrong, out-of-fold accuracy %.4f", len(errors), len(labels), accuracy
    )
    generation = read_manifest(objects, dataset.snapshot).generation
    return put_json(
        objects,
        "datasets",
        generation,
        "report.json",
        {
            "dataset": dataset_uri,
            "examples": len(labels),
            "classes": _balance(labelled, dataset.labels),
            "quarantined": dict(dataset.quarantined),
            "out_of_fold_accuracy": accuracy,
            "classifiers": {"folds": FOLDS, "config": config.model_dump(mode="json")},
            "label_errors": [_described(error, labelled, dataset.labels) for error in errors],
        },
    )


def _read(objects: ObjectStore, dataset: Dataset) -> _Labelled:
    columns = ("record_id", "url", "fold", "label", "pixels")
    kept: dict[str, list[Any]] = {name: [] for name in columns}
    with open_rows(objects, dataset) as file:
        for batch in file.iter_batches(columns=[*columns]):
            usable = batch.filter(batch["label"].is_valid())
            for name in columns:
                kept[name] += usable[name].to_pylist()
    if not kept["label"]:
        raise Permanent(f"{dataset.rows}: no example is usable")
    pixels = np.frombuffer(b"".join(kept["pixels"]), np.uint8)
    examples = Examples(pixels.reshape(-1, 28, 28), np.array(kept["label"], np.uint8))
    return _Labelled(examples, kept["record_id"], kept["url"], kept["fold"])


def _balance(labelled: _Labelled, names: Sequence[str]) -> dict[str, dict[str, int]]:
    folds, labels = np.array(labelled.folds), labelled.examples.labels
    by_fold = {str(fold): class_balance(labels[folds == str(fold)]) for fold in Fold}
    return {
        name: {fold: counts[index] for fold, counts in by_fold.items()} for index, name in enumerate(names)
    }


def _described(error: LabelError, labelled: _Labelled, names: Sequence[str]) -> dict[str, object]:
    return {
        "record_id": labelled.record_ids[error.index],
        "url": labelled.urls[error.index],
        "fold": labelled.folds[error.index],
        "given": names[error.given],
        "suggested": names[error.suggested],
        "margin": round(error.margin, 6),
        "confident": error.confident,
    }
