"""Trainings in one SQLite file, which the command line reads: no server, no torch."""

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
    """Writes the numbers of experiments; pictures and distributions are TensorBoard's.

    Every call is one transaction on a connection of its own, so that nothing is held open between steps.

    Args:
        path: of the file; it is made where it does not exist.
    """

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._experiment: str | None = None
        self._replaces = False

    def begin(self, experiment: Experiment) -> None:
        """Note it as running; where it is known, its first start stays.

        Raises:
            Permanent: the file is of a newer version, or the name is another training's.
        """
        ensure_schema(self._path)
        with writing(self._path) as connection:
            found = connection.execute(
                "SELECT config_digest, dataset FROM experiments WHERE name = ?", (experiment.name,)
            ).fetchone()
            if found and found != (experiment.config_digest, experiment.dataset):
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
        self._experiment, self._replaces = experiment.name, found is not None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write them all, in one transaction."""
        with writing(self._path) as connection:
            if self._replaces:
                for table in ("scalars", "queues"):
                    connection.execute(
                        f"DELETE FROM {table} WHERE experiment = ? AND step >= ?",  # noqa: S608 - one of two
                        (self._begun, step),
                    )
            connection.executemany(
                "INSERT OR REPLACE INTO scalars VALUES (?, ?, ?, ?)",
                [(self._begun, tag, step, value) for tag, value in values.items()],
            )
        self._replaces = False

    def queues(self, step: int, values: Mapping[str, QueueSummary]) -> None:
        """Write them all, in one transaction."""
        with writing(self._path) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO queues VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (self._begun, tag, step, queue.count, queue.mean, queue.std, queue.min, queue.max)
                    for tag, queue in values.items()
                ],
            )

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Write the hyperparameters and the final metrics in place of former ones."""
        with writing(self._path) as connection:
            for table, rows in (
                ("hparams", {name: json.dumps(value) for name, value in config.items()}),
                ("final_metrics", metrics),
            ):
                connection.execute(f"DELETE FROM {table} WHERE experiment = ?", (self._begun,))  # noqa: S608
                connection.executemany(
                    f"INSERT INTO {table} VALUES (?, ?, ?)",  # noqa: S608 - the names stand above
                    [(self._begun, name, value) for name, value in rows.items()],
                )

    def finish(self, outcome: Outcome) -> None:
        """Note how it ended."""
        with writing(self._path) as connection:
            connection.execute(
                "UPDATE experiments SET status = ?, finished_at = ?, best_epoch = ?, why = ? WHERE name = ?",
                (
                    outcome.status,
                    outcome.at.astimezone(UTC).isoformat(),
                    outcome.best_epoch,
                    outcome.why,
                    self._begun,
                ),
            )

    @property
    def _begun(self) -> str:
        if self._experiment is None:
            raise Permanent("sqlite: no experiment has begun")
        return self._experiment
