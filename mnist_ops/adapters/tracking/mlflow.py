"""Records trainings on an MLflow server, through `mlflow-skinny`; its errors become Transient."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Status, Tracker

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mnist_ops.vision.training.tracking import Digits

# Per request: with the default of 7 retries, MLflow would block a training for minutes.
_RETRIES, _TIMEOUT_S = 2, 20
_BATCH = 100  # numbers per request: one request per step would slow the training
_LONGEST = 5000  # characters of a tag; MLflow's own limit is a little higher
_NAME_TAG = "mnist_ops.experiment"
_STATUS = {
    Status.RUNNING: "RUNNING",
    Status.FINISHED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.INTERRUPTED: "KILLED",
}


class MlflowTracker(Tracker):
    """Records a training as a run of an MLflow experiment, without distributions and embeddings.

    A resumed training continues its run; MLflow also keeps the older numbers of the same steps.

    Args:
        uri: the URI of the tracking server; credentials come from MLflow's own environment variables.
        group: the MLflow experiment that holds the runs.
        now_ms: the clock, in milliseconds since 1970.

    Raises:
        Permanent: `mlflow-skinny` is not installed.
    """

    name = "mlflow"

    def __init__(
        self, uri: str, group: str, now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
    ) -> None:
        if find_spec("mlflow") is None:
            raise Permanent("the tracker mlflow needs the extra `mlflow`: pip install 'mnist-ops[mlflow]'")
        self._uri, self._group, self._now_ms = uri, group, now_ms
        self._client: Any = None
        self._run = ""
        self._unsent: list[Any] = []

    def begin(self, experiment: Experiment) -> None:
        """Create the run of that name, or continue it if it exists."""
        mlflow = _mlflow()
        with _sending():
            self._client = mlflow.MlflowClient(tracking_uri=self._uri)
            group = self._client.get_experiment_by_name(self._group)
            group_id = group.experiment_id if group else self._client.create_experiment(self._group)
            existing = self._client.search_runs(
                [group_id], f"tags.`{_NAME_TAG}` = '{experiment.name}'", max_results=1
            )
            if existing:
                self._run = existing[0].info.run_id
                self._client.update_run(self._run, status=_STATUS[Status.RUNNING])
                return
            tags = {f"environment.{name}": value for name, value in experiment.environment.items()}
            tags |= {_NAME_TAG: experiment.name, "dataset": experiment.dataset, "device": experiment.device}
            started = int(experiment.started_at.timestamp() * 1000)
            run = self._client.create_run(group_id, started, tags, run_name=experiment.name)
            self._run = run.info.run_id
            params = [mlflow.entities.Param(name, str(value)) for name, value in experiment.config.items()]
            self._client.log_batch(self._run, params=params)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Queue the numbers; send them once there are enough for a request."""
        metric, at_ms = _mlflow().entities.Metric, self._now_ms()
        self._unsent += [metric(tag, value, at_ms, step) for tag, value in values.items()]
        if len(self._unsent) >= _BATCH:
            self._flush()

    def queues(self, step: int, values: Mapping[str, QueueSummary]) -> None:
        """Send mean, std, min and max as scalars."""
        for tag, summary in values.items():
            self.scalars(step, summary.scalars(tag))

    def images(self, step: int, tag: str, images: "Digits", captions: Sequence[str]) -> None:
        """Send one image with all digits and captions, as an artifact."""
        from mnist_ops.adapters.tracking.image_grid import sample_grid  # noqa: PLC0415 - torch-free, numpy when needed

        with _sending():
            self._client.log_image(self._run, sample_grid(images, captions), f"{tag}-{step:05d}.png")

    def graph(self, network: "nn.Module", example: "Tensor") -> None:
        """Send the layers as text."""
        del example
        with _sending():
            self._client.log_text(self._run, f"{network}\n", "graph.txt")

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Send the final metrics; `begin` has sent the config as parameters."""
        del config
        self.scalars(0, metrics)
        self._flush()

    def finish(self, outcome: Outcome) -> None:
        """Send the remaining numbers and end the run."""
        self._flush()
        with _sending():
            if outcome.why:
                self._client.set_tag(self._run, "why", outcome.why[:_LONGEST])
            if outcome.best_epoch is not None:
                self._client.set_tag(self._run, "best_epoch", str(outcome.best_epoch))
            ended = int(outcome.at.timestamp() * 1000)
            self._client.set_terminated(self._run, _STATUS[outcome.status], ended)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent:
            with _sending():
                self._client.log_batch(self._run, metrics=unsent)


def _mlflow() -> ModuleType:
    """Import MLflow, without its telemetry, and with few retries and a short timeout."""
    mlflow = import_module("mlflow")
    switches = import_module("mlflow.environment_variables")
    if not switches.MLFLOW_DISABLE_TELEMETRY.get():
        switches.MLFLOW_DISABLE_TELEMETRY.set(True)
        import_module("mlflow.telemetry").set_telemetry_client()
    for switch, value in (
        (switches.MLFLOW_HTTP_REQUEST_MAX_RETRIES, _RETRIES),
        (switches.MLFLOW_HTTP_REQUEST_TIMEOUT, _TIMEOUT_S),
    ):
        if not switch.is_set():
            switch.set(value)
    return mlflow


@contextmanager
def _sending() -> Iterator[None]:
    """Translate errors of MLflow and of the connection to Transient; print its output to standard error."""
    failed: type[Exception] = import_module("mlflow.exceptions").MlflowException
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (failed, OSError) as error:
        raise Transient(f"MLflow refuses the request: {error}") from error
