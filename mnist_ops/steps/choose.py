"""Choose: the best trial of a sweep, by the validation fold."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.outcome_lines import log_lines, wrapped
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.objects import get_json, put_json
from mnist_ops.steps.artifacts.trainings import Training, read_training
from mnist_ops.validation import problems_of
from mnist_ops.vision.config.sweep import differences

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of a sweep's table.

    Attributes:
        training: the URI of the training.
        differences: the JSON values of the fields in which the trials' configurations differ.
        validation_accuracy: of the kept weights, the share of the validation fold that is right, 0 to 1.
        validation_nll: of the kept weights, the mean negative log-likelihood in nats.
        best_epoch: the epoch of the kept weights, from 1.
        parameters: the number of trainable parameters.
    """

    training: str
    differences: Mapping[str, object]
    validation_accuracy: float
    validation_nll: float
    best_epoch: int
    parameters: int

    @property
    def selection_key(self) -> tuple[float, float, int]:
        """The higher, the better: the lower NLL, among equals the accuracy, then the smaller network."""
        return -self.validation_nll, self.validation_accuracy, -self.parameters


@dataclass(frozen=True, slots=True)
class Choice:
    """A sweep's table of trials, and the winner.

    Attributes:
        dataset: the URI of the data set's manifest.
        trials: the trials, in their order.
        winner: the URI of the chosen training.
    """

    dataset: str
    trials: tuple[Trial, ...]
    winner: str


_CHOICE = TypeAdapter(Choice)


def choose(training_uris: Sequence[str], *, objects: ObjectStore) -> str:
    """Choose the best of several trainings by their validation metrics alone; no fold is read.

    Args:
        training_uris: the trials, in their order; of equal ones the first wins.
        objects: the store of the trainings.

    Returns:
        The URI of the sweep's table, with the winner.

    Raises:
        Permanent: there is no training, or they are of several data sets.
    """
    trainings = [read_training(objects, uri) for uri in training_uris]
    if not trainings:
        raise Permanent("there is no training to choose from")
    datasets = sorted({training.dataset_uri for training in trainings})
    if len(datasets) > 1:
        raise Permanent(f"trainings on {len(datasets)} data sets cannot be compared: {', '.join(datasets)}")
    trials = _table(trainings)
    best = max(trials, key=lambda trial: trial.selection_key)
    _log.info(
        "of %d trials, number %d validates best: accuracy %.4f, NLL %.4f",
        len(trials),
        trials.index(best) + 1,
        best.validation_accuracy,
        best.validation_nll,
    )
    log_lines(_log, wrapped(", ".join(f"{name} {value}" for name, value in best.differences.items())))
    choice = Choice(datasets[0], trials, best.training)
    return put_json(objects, "trainings", trainings[0].generation, "sweep.json", asdict(choice))


def _table(trainings: Sequence[Training]) -> tuple[Trial, ...]:
    configs = [training.model.config for training in trainings]
    return tuple(
        Trial(
            training=training.uri,
            differences=values,
            validation_accuracy=training.model.best.validation_accuracy,
            validation_nll=training.model.best.validation_nll,
            best_epoch=training.model.best.epoch,
            parameters=training.model.parameters,
        )
        for training, values in zip(trainings, differences(configs), strict=True)
    )


def read_choice(objects: ObjectStore, uri: str) -> Choice:
    """Read a sweep's table, verified.

    Raises:
        Damaged: it is not a sweep's table.
    """
    try:
        choice = _CHOICE.validate_python(get_json(objects, uri))
    except ValidationError as error:
        raise Damaged(f"{uri}: not the table of a sweep ({problems_of(error)[0]})") from error
    if choice.winner not in [trial.training for trial in choice.trials]:
        raise Damaged(f"{uri}: its winner is none of its trials")
    return choice
