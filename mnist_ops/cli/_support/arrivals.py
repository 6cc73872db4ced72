"""One run after another for records that arrive, in a process that stays warm."""

import logging
import time
from dataclasses import dataclass, field

from mnist_ops.cli._support.run_progress import new_generation, progress_of
from mnist_ops.cli._support.whole_runs import OpenTools, predictions_of
from mnist_ops.domain.arrivals import AFTER_A_HELD_RUN, Cause, Wake, selection_of_arrivals
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.domain.run_summary import RunFailed
from mnist_ops.pipeline import Pipeline

_log = logging.getLogger(__name__)


@dataclass
class ArrivalRuns:
    """Labels the records that wait, again and again.

    Attributes:
        steps: the pipeline.
        tools: stay open from run to run.
    """

    steps: Pipeline
    tools: OpenTools
    _left: int = field(default=0, init=False)
    _arrived: bool = field(default=False, init=False)
    _held: Ledger | None = field(default=None, init=False)

    def warm_up(self) -> None:
        """Count the waiting records, and load the champion if there is one: both connect.

        Raises:
            MnistOpsError: MongoDB or S3 cannot be used.
        """
        adapters = self.steps.adapters
        self.steps.count(selection_of_arrivals(self.steps.now()))
        champion = adapters.models.champion(self.steps.settings.model_name)
        if champion is not None and self.tools.bundles is not None:
            self.tools.bundles.load(adapters.objects, champion, adapters.load_classifier)

    def label(self, wake: Wake) -> None:
        """Label the records that wait; does nothing if none does, or only those of the last red run.

        After a held run it does nothing for a while: a later wake, because records are due, makes up for it.

        Raises:
            MnistOpsError: the run was not finished, and its records still wait.
        """
        self._arrived |= wake.cause is not Cause.DUE
        selection = selection_of_arrivals(self.steps.now())
        waiting = self.steps.count(selection)
        if not waiting or self._is_held() or (waiting == self._left and not self._arrived):
            return
        started = time.monotonic()
        manifest = self.steps.snapshot(new_generation(), selection)
        try:
            ledger = self._finished(manifest)
        except RunFailed as failed:
            # Its records may wait on: the same ones alone are no reason for another run.
            self._left, self._arrived = self.steps.count(selection_of_arrivals(self.steps.now())), False
            self._held = failed.ledger if failed.ledger.held_because else None
            _log.error("%s", failed)
            return
        self._left, self._arrived, self._held = 0, False, None
        counts = {str(outcome): count for outcome, count in ledger.outcomes.items() if count}
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
        _log.info("%s, %s: %s in %.1f s", ledger.generation.run, wake.cause, told, time.monotonic() - started)

    def _is_held(self) -> bool:
        """Whether the last run ended a short time ago, is over its failure budget, and is not released."""
        if self._held is None or self.steps.now() >= self._held.finished_at + AFTER_A_HELD_RUN:
            return False
        ledger = self.steps.adapters.runs.ledger(self._held.generation)
        return bool(ledger and ledger["held_because"])

    def _finished(self, manifest: str) -> Ledger:
        progress = progress_of(self.steps, manifest)
        predictions = predictions_of(self.steps, progress, self.tools, lambda _: None)
        assessment = self.steps.assess(manifest, predictions)
        return self.steps.reconcile(manifest, [self.steps.publish(uri, assessment) for uri in predictions])
