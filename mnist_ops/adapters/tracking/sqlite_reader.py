"""Reads the experiments that SqliteTracker noted."""

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mnist_ops.adapters.tracking.sqlite_schema import reading
from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.training.tracking import Experiment, Status

_EXPERIMENTS = """
    SELECT *, (
        SELECT max(value) FROM scalars
        WHERE scalars.experiment = experiments.name AND scalars.tag = 'validation/accuracy'
    ) AS best_accuracy FROM experiments ORDER BY started_at DESC, name
"""
# A validation is a step with a `train/epoch`; the learning rate is that of the last step told before it.
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
    """An experiment as it was noted.

    Attributes:
        experiment: what was trained, on what.
        status: what became of it.
        finished_at: when it ended; None where it did not.
        best_epoch: the epoch whose weights were kept, from 1.
        best_accuracy: the best on the validation fold so far, 0 to 1; None before the first validation.
        why: the error that ended it.
        metrics: the final ones, by name.
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
    """One line of an experiment's log.

    Attributes:
        epoch: from 1.
        step: from 1, counted over all epochs.
        train_loss: mean over the epoch's examples so far.
        validation_accuracy: 0 to 1.
        validation_nll: nats.
        learning_rate: of the last step that was told; None where none was.
    """

    epoch: int
    step: int
    train_loss: float
    validation_accuracy: float
    validation_nll: float
    learning_rate: float | None


class Experiments:
    """The experiments of one file.

    Every method raises Permanent where there is no such file, and Transient where it cannot be read.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> tuple[ExperimentRecord, ...]:
        """All of them, the newest first."""
        with reading(self._path) as connection:
            metrics: dict[str, dict[str, float]] = {}
            for row in connection.execute("SELECT * FROM final_metrics ORDER BY name"):
                metrics.setdefault(row["experiment"], {})[row["name"]] = _number(row["value"])
            return tuple(_noted(row, metrics) for row in connection.execute(_EXPERIMENTS))

    def find(self, name: str) -> ExperimentRecord:
        """One of them by its name, by how its name begins, or by any part that no other name has.

        Raises:
            Permanent: none or several are meant.
        """
        known = {noted.experiment.name: noted for noted in self.all()}
        if name in known:
            return known[name]
        meant = [other for other in known if other.startswith(name)] or [
            other for other in known if name in other
        ]
        if len(meant) == 1:
            return known[meant[0]]
        if meant:
            raise Permanent(f"experiment {name!r} may be any of {', '.join(meant)}")
        raise Permanent(f"no experiment {name!r}; there are {', '.join(known) or 'none'}")

    def log(self, name: str) -> tuple[Validation, ...]:
        """The validations of an experiment, in their order.

        Args:
            name: its whole name.
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


def _noted(row: sqlite3.Row, metrics: Mapping[str, Mapping[str, float]]) -> ExperimentRecord:
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
