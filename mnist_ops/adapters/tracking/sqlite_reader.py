"""Reads the experiments that `SqliteTracker` recorded."""

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mnist_ops.adapters.tracking.sqlite_schema import reading
from mnist_ops.domain.errors import UsageError
from mnist_ops.vision.training.tracking import Experiment, Status

_EXPERIMENTS = """
    SELECT *, (
        SELECT max(value) FROM scalars
        WHERE scalars.experiment = experiments.name AND scalars.tag = 'validation/accuracy'
    ) AS best_accuracy FROM experiments ORDER BY started_at DESC, name
"""
# A validation is a step with a `train/epoch`; its learning rate is that of the last step recorded before it.
_VALIDATIONS = """
    SELECT step, value AS epoch,
        (SELECT value FROM scalars WHERE experiment = e.experiment AND tag = 'train/epoch_loss'
            AND step = e.step) AS train_loss,
        (SELECT value FROM scalars WHERE experiment = e.experiment AND tag = 'validation/accuracy'
            AND step = e.step) AS accuracy,
        (SELECT value FROM scalars WHERE experiment = e.experiment AND tag = 'validation/nll'
            AND step = e.step) AS nll,
        (SELECT value FROM scalars WHERE experiment = e.experiment AND tag = 'train/learning_rate'
            AND step <= e.step ORDER BY step DESC LIMIT 1) AS learning_rate
    FROM scalars e WHERE experiment = ? AND tag = 'train/epoch' ORDER BY step
"""


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """A recorded experiment.

    Attributes:
        experiment: its name, config, data set and environment.
        status: running, finished, failed or interrupted.
        finished_at: its end; None while it runs.
        best_epoch: the epoch whose weights were kept, from 1; None before the end.
        best_accuracy: the best accuracy on the validation fold, 0 to 1; None before the first validation.
        why: the error that ended it, if any.
        metrics: the final metrics, by name.
    """

    experiment: Experiment
    status: Status
    finished_at: datetime | None
    best_epoch: int | None
    best_accuracy: float | None
    why: str | None
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Validation:
    """One validation of an experiment.

    Attributes:
        epoch: from 1.
        step: from 1, counted over all epochs.
        train_loss: mean over the epoch's examples so far.
        validation_accuracy: 0 to 1.
        validation_nll: nats.
        learning_rate: of the last recorded step; None if there is none.
    """

    epoch: int
    step: int
    train_loss: float
    validation_accuracy: float
    validation_nll: float
    learning_rate: float | None


class Experiments:
    """The experiments of one file.

    Every method raises Permanent if the file does not exist (`find`: UsageError), and Transient if it cannot
    be read.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> tuple[ExperimentRecord, ...]:
        """Return all experiments, newest first."""
        with reading(self._path) as connection:
            metrics: dict[str, dict[str, float]] = {}
            for row in connection.execute("SELECT * FROM final_metrics ORDER BY name"):
                metrics.setdefault(row["experiment"], {})[row["name"]] = _number(row["value"])
            return tuple(_record(row, metrics) for row in connection.execute(_EXPERIMENTS))

    def find(self, name: str) -> ExperimentRecord:
        """Return one experiment by its name, by a prefix of its name, or by any part of its name.

        Raises:
            UsageError: no experiment matches, also because there is no file yet; or several do.
        """
        if not self._path.is_file():
            raise UsageError(f"no experiment {name!r}; no training has been tracked in {self._path} yet")
        known = {record.experiment.name: record for record in self.all()}
        if name in known:
            return known[name]
        matches = [other for other in known if other.startswith(name)] or [
            other for other in known if name in other
        ]
        if len(matches) == 1:
            return known[matches[0]]
        if matches:
            raise UsageError(f"experiment {name!r} may be any of {', '.join(matches)}")
        raise UsageError(f"no experiment {name!r}; there are {', '.join(known) or 'none'}")

    def log(self, name: str) -> tuple[Validation, ...]:
        """Return the validations of an experiment in the order of their steps.

        Args:
            name: its full name.
        """
        with reading(self._path) as connection:
            return tuple(
                Validation(
                    epoch=int(row["epoch"]),
                    step=row["step"],
                    train_loss=_number(row["train_loss"]),
                    validation_accuracy=_number(row["accuracy"]),
                    validation_nll=_number(row["nll"]),
                    learning_rate=row["learning_rate"],
                )
                for row in connection.execute(_VALIDATIONS, (name,))
            )


def _record(row: sqlite3.Row, metrics: Mapping[str, Mapping[str, float]]) -> ExperimentRecord:
    return ExperimentRecord(
        experiment=Experiment(
            name=row["name"],
            started_at=datetime.fromisoformat(row["started_at"]),
            config=json.loads(row["config"]),
            dataset=row["dataset"],
            device=row["device"],
            environment=json.loads(row["environment"]),
        ),
        status=Status(row["status"]),
        finished_at=datetime.fromisoformat(row["finished_at"]) if row["finished_at"] else None,
        best_epoch=row["best_epoch"],
        best_accuracy=row["best_accuracy"],
        why=row["why"],
        metrics=metrics.get(row["name"], {}),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
