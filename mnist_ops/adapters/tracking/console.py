"""Trainings as lines of the log."""

import logging
from collections.abc import Mapping

from mnist_ops.vision.training.tracking import Experiment, Outcome, Tracker

_log = logging.getLogger(__name__)


class ConsoleTracker(Tracker):
    """Logs the numbers of a training; pictures and distributions have no place in a log."""

    name = "console"

    def begin(self, experiment: Experiment) -> None:
        """Log what is trained."""
        config = " ".join(f"{name}={value}" for name, value in sorted(experiment.config.items()))
        _log.info("experiment %s on %s: %s", experiment.name, experiment.device, config)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log one line."""
        _log.info("step %d: %s", step, _line(values))

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Log the final metrics; the config stands above."""
        del config
        _log.info("final: %s", _line(metrics))

    def finish(self, outcome: Outcome) -> None:
        """Log how it ended."""
        _log.info("experiment %s%s", outcome.status, f": {outcome.why}" if outcome.why else "")


def _line(values: Mapping[str, float]) -> str:
    return ", ".join(f"{tag} {value:.6g}" for tag, value in values.items())
