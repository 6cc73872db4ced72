"""Records trainings as lines of the log."""

import logging
from collections.abc import Mapping

from mnist_ops.vision.training.tracking import Experiment, Outcome, Tracker

_log = logging.getLogger(__name__)


class ConsoleTracker(Tracker):
    """Logs the numbers of a training, without images and distributions."""

    name = "console"

    def begin(self, experiment: Experiment) -> None:
        config = " ".join(f"{name}={value}" for name, value in sorted(experiment.config.items()))
        _log.info("experiment %s on %s: %s", experiment.name, experiment.device, config)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        _log.info("step %d: %s", step, _line(values))

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Log the final metrics; `begin` has logged the config."""
        del config
        _log.info("final: %s", _line(metrics))

    def finish(self, outcome: Outcome) -> None:
        """Log the status, and the error if there was one."""
        _log.info("experiment %s%s", outcome.status, f": {outcome.why}" if outcome.why else "")


def _line(values: Mapping[str, float]) -> str:
    return ", ".join(f"{tag} {value:.6g}" for tag, value in values.items())
