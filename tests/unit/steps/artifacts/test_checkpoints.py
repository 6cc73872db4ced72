"""Where a training's checkpoints are stored, and how they are found."""

import logging
from pathlib import Path

import pytest

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import Generation
from mnist_ops.steps.artifacts.checkpoints import StoredCheckpoints, epoch_in_name
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.steps.train import at_epoch
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.training.checkpoint import Checkpoint

RUN = Generation("train_lenet/one")
DATASET = "memory://objects/datasets/one.json"


def _checkpoint(epoch: int, config: TrainingConfig | None = None) -> Checkpoint:
    return Checkpoint(
        config=config or TrainingConfig(),
        data_digest="0" * 64,
        epoch=epoch,
        step=10 * epoch,
        batch_size=64,
        best_step=10,
        history=(),
        tensors={},
    )


@pytest.fixture
def objects() -> InMemoryObjects:
    """An empty store."""
    return InMemoryObjects()


def _stored(
    objects: InMemoryObjects, folder: Path, config: TrainingConfig | None = None
) -> StoredCheckpoints:
    return StoredCheckpoints(objects, RUN, DATASET, config or TrainingConfig(), folder)


def test_the_newest_is_that_of_the_latest_epoch(objects, tmp_path) -> None:
    """From the tenth on as well."""
    kept = _stored(objects, tmp_path)
    for epoch in (1, 2, 9, 10):
        kept.save(_checkpoint(epoch))
    assert kept.newest().epoch == 10
    assert [epoch_in_name(uri) for uri in kept.uris()] == [1, 2, 9, 10]


def test_a_training_that_begins_has_none(objects, tmp_path) -> None:
    """It starts from random weights."""
    assert _stored(objects, tmp_path).newest() is None


def test_a_checkpoint_that_is_only_local_is_found(objects, tmp_path) -> None:
    """The process was killed before the upload."""
    _stored(InMemoryObjects(), tmp_path).save(_checkpoint(3))
    assert _stored(objects, tmp_path).newest().epoch == 3
    assert _stored(objects, tmp_path / "other").newest().epoch == 3, (
        "it is uploaded before the training goes on"
    )


def test_a_checkpoint_that_is_only_in_the_object_store_is_found(objects, tmp_path) -> None:
    """Another machine continues."""
    _stored(objects, tmp_path / "one").save(_checkpoint(3))
    assert _stored(objects, tmp_path / "other").newest().epoch == 3


def test_instead_of_a_damaged_local_file_the_object_store_is_read(objects, tmp_path) -> None:
    """The digest is in the name."""
    _stored(objects, tmp_path).save(_checkpoint(3))
    (file,) = tmp_path.rglob("epoch-*")
    file.write_bytes(b"half")
    assert _stored(objects, tmp_path).newest().epoch == 3


def test_instead_of_a_damaged_checkpoint_the_one_before_is_used(objects, tmp_path, caplog) -> None:
    """One epoch is lost, not the training; the log says so."""
    kept = _stored(objects, tmp_path)
    for epoch in (1, 2):
        kept.save(_checkpoint(epoch))
    (key,) = (key for key in objects.objects if "epoch-000002" in key)
    objects.objects[key] = b"half"
    kept.remove_local()
    with caplog.at_level(logging.WARNING):
        assert kept.newest().epoch == 1
    assert "a checkpoint is ignored" in caplog.text


def test_a_training_survives_a_disk_that_cannot_be_written(objects, tmp_path, caplog) -> None:
    """Only the object store has the checkpoints, and the log says so."""
    (tmp_path / "a file").write_text("no folder")
    kept = _stored(objects, tmp_path / "a file")
    kept.save(_checkpoint(1))
    assert kept.newest().epoch == 1
    assert "cannot be written" in caplog.text


def test_an_unfinished_file_is_no_checkpoint(objects, tmp_path) -> None:
    """A process was killed while it wrote."""
    _stored(objects, tmp_path).save(_checkpoint(1))
    (file,) = tmp_path.rglob("epoch-*")
    file.with_name(f"{file.name.replace('epoch-000001', 'epoch-000002')}.unfinished").write_bytes(b"")
    assert _stored(objects, tmp_path).newest().epoch == 1


def test_trainings_of_other_configs_and_data_keep_apart(objects, tmp_path) -> None:
    """The trials of a sweep run at the same time."""
    _stored(objects, tmp_path).save(_checkpoint(3))
    assert _stored(objects, tmp_path, TrainingConfig(seed=1)).newest() is None
    assert StoredCheckpoints(objects, RUN, DATASET + "2", TrainingConfig(), tmp_path).newest() is None
    other = Generation("train_lenet/two")
    assert StoredCheckpoints(objects, other, DATASET, TrainingConfig(), tmp_path).newest() is None


def test_a_finished_training_removes_its_local_files(objects, tmp_path) -> None:
    """The object store has all."""
    kept = _stored(objects, tmp_path)
    kept.save(_checkpoint(1))
    kept.remove_local()
    kept.remove_local()
    assert not list(tmp_path.rglob("epoch-*"))
    assert kept.newest().epoch == 1


def test_any_epoch_of_a_training_can_be_taken(trained) -> None:
    """Its weights are those that were validated in that epoch."""
    objects = trained.pipeline.copy().objects
    former = read_training(objects, trained.training)
    for epoch in (1, former.model.history[-1].epoch):
        taken = read_training(objects, at_epoch(trained.training, epoch, objects=objects))
        assert taken.model.best.epoch == epoch
        assert (taken.model.weights == former.model.weights) == (epoch == former.model.best.epoch)


def test_an_epoch_without_a_checkpoint_is_refused(trained) -> None:
    """The error names the epochs that exist."""
    with pytest.raises(Permanent, match="no epoch 99; there are 1 to"):
        at_epoch(trained.training, 99, objects=trained.pipeline.objects)
