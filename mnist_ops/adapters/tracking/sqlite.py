"""Records trainings in one SQLite file, which the command line reads without a server and without torch."""

import json
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

from mnist_ops.adapters.tracking.sqlite_schema import ensure_schema, writing
from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Status, Tracker

_BEGIN = """
    INSERT INTO experiments
        (name, started_at, dataset, device, config, config_digest, environment, status)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET
        device = excluded.device, environment = excluded.environment, status = excluded.status,
        finished_at = NULL, best_epoch = NULL, why = NULL
"""


class SqliteTracker(Tracker):
    """Records the numbers of trainings, without images and distributions.

    Every call opens a connection for one transaction, so nothing stays open between steps.

    Args:
        path: the file; created if it does not exist.
    """

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._experiment: str | None = None
        self._replaces = False

    def begin(self, experiment: Experiment) -> None:
        """Record the experiment as running; a resumed one keeps its first start.

        Raises:
            Permanent: a newer version wrote the file, or the name belongs to another training.
        """
        ensure_schema(self._path)
        with writing(self._path) as connection:
            known = connection.execute(
                "SELECT config_digest, dataset FROM experiments WHERE name = ?", (experiment.name,)
            ).fetchone()
            if known and known != (experiment.config_digest, experiment.dataset):
                raise Permanent(f"{self._path}: experiment {experiment.name} had another config or data set")
            connection.execute(
                _BEGIN,
                (
                    experiment.name,
                    experiment.started_at.astimezone(UTC).isoformat(),
                    experiment.dataset,
                    experiment.device,
                    json.dumps(dict(experiment.config), sort_keys=True),
                    experiment.config_digest,
                    json.dumps(dict(experiment.environment), sort_keys=True),
                    Status.RUNNING,
                ),
            )
        self._experiment, self._replaces = experiment.name, known is not None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with writing(self._path) as connection:
            if self._replaces:
                for table in ("scalars", "queues"):
                    connection.execute(
                        f"DELETE FROM {table} WHERE experiment = ? AND step >= ?",  # noqa: S608 - one of two literals
                        (self._name, step),
                    )
            connection.executemany(
                "INSERT OR REPLACE INTO scalars VALUES (?, ?, ?, ?)",
                [(self._name, tag, step, value) for tag, value in values.items()],
            )
        self._replaces = False

    def queues(self, step: int, values: Mapping[str, QueueSummary]) -> None:
        with writing(self._path) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO queues VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (self._name, tag, step, queue.count, queue.mean, queue.std, queue.min, queue.max)
                    for tag, queue in values.items()
                ],
            )

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Write the hyperparameters and the final metrics; they replace earlier ones."""
        with writing(self._path) as connection:
            for table, rows in (
                ("hparams", {name: json.dumps(value) for name, value in config.items()}),
                ("final_metrics", metrics),
            ):
                connection.execute(f"DELETE FROM {table} WHERE experiment = ?", (self._name,))  # noqa: S608
                connection.executemany(
                    f"INSERT INTO {table} VALUES (?, ?, ?)",  # noqa: S608 - one of two literals
                    [(self._name, name, value) for name, value in rows.items()],
                )

    def finish(self, outcome: Outcome) -> None:
        with writing(self._path) as connection:
            ended = outcome.at.astimezone(UTC).isoformat()
            connection.execute(
                "UPDATE experiments SET status = ?, finished_at = ?, best_epoch = ?, why = ? WHERE name = ?",
                (outcome.status, ended, outcome.best_epoch, outcome.why, self._name),
            )

    @property
    def _name(self) -> str:
        if self._experiment is None:
            raise Permanent("sqlite: no experiment has begun")
        return self._experiment
