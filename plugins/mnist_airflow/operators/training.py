"""The steps from labelled records to a released model."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from mnist_airflow.operators.base import MnistOpsOperator, uris_of

if TYPE_CHECKING:
    from airflow.sdk import Context

# What the training process exits with when retrying cannot help: bad settings, or a permanent error.
# See mnist_ops.cli.
EXITS_FOR_GOOD = frozenset({2, 3})

_GRACE_S = 20.0  # for the training process to end when it is asked to, in seconds


class BuildDatasetOperator(MnistOpsOperator):
    """Make a data set of a labelled snapshot and its image shards. Returns its manifest's URI.

    Args:
        manifest: the snapshot's manifest.
        images: the URIs of all its image shards.
        kwargs: MnistOpsOperator's and BaseOperator's arguments.
    """

    template_fields = (*MnistOpsOperator.template_fields, "manifest", "images")

    def __init__(self, *, manifest: str, images: str | Sequence[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.manifest = manifest
        self.images = images

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Build."""
        from mnist_ops.steps.artifacts import read_manifest
        from mnist_ops.steps.build_dataset import build_dataset

        with self.wired() as adapters:
            generation = read_manifest(adapters.objects, self.manifest).generation
            return build_dataset(
                self.manifest,
                uris_of(self.images, generation),
                records=adapters.records,
                objects=adapters.objects,
                datasets=adapters.datasets,
            )


class TrainModelOperator(MnistOpsOperator):
    """Train a network in a fresh process. Returns the training's URI.

    The process is `mnist-ops step train`: CUDA must not be used in a forked one, and what it holds
    is free again when it ends. Its log lines come out in the task's log.

    Args:
        dataset: the data set's manifest.
        config: hyperparameters by name, see `mnist_ops.vision.training_config`; None is left out.
        kwargs: MnistOpsOperator's and BaseOperator's arguments.
    """

    template_fields = (*MnistOpsOperator.template_fields, "dataset", "config")

    def __init__(
        self,
        *,
        dataset: str,
        config: Mapping[str, object] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.config = config
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Train."""
        config = {name: value for name, value in (self.config or {}).items() if value is not None}
        with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
            result = Path(folder) / "training"
            command = [sys.executable, "-m", "mnist_ops", "step", "train", "--dataset", self.dataset]
            command += ["--config-json", json.dumps(config), "--result", str(result), "--end-with-stdin"]
            self._process = subprocess.Popen(
                command,
                env=self._environment(),
                # Held open: where this process is killed, the pipe closes and the training ends as well.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            with self._process as process:
                try:
                    for line in process.stdout or ():
                        self.log.info("%s", line.rstrip())
                except BaseException:
                    # The task's time limit among others: `with` waits for the process, so end it first.
                    self.on_kill()
                    raise
            if process.returncode in EXITS_FOR_GOOD:
                raise AirflowFailException("training failed for good: see the lines above")
            if process.returncode != 0:
                raise AirflowException(f"the training process ended with {process.returncode}")
            return result.read_text()

    def _environment(self) -> dict[str, str]:
        """The environment of the process: its settings, and the keys of S3, which is all it needs."""
        from mnist_airflow.connections import aws_connection_as_json

        settings = self.settings()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        return inherited | {
            "AIRFLOW_CONN_AWS_DEFAULT": aws_connection_as_json(self.aws_conn_id),
            "MNIST_OPS_S3_BUCKET": settings.s3_bucket,
            "MNIST_OPS_S3_PREFIX": settings.s3_prefix,
            "PYTHONUNBUFFERED": "1",
        }

    def on_kill(self) -> None:
        """End the training process with the task."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()


class EvaluateModelOperator(MnistOpsOperator):
    """Measure a training, and the champion, on the same test fold. Returns the evaluation's URI.

    Args:
        training: the training's URI.
        kwargs: MnistOpsOperator's and BaseOperator's arguments.
    """

    template_fields = (*MnistOpsOperator.template_fields, "training")

    def __init__(self, *, training: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.training = training

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Evaluate."""
        from mnist_ops.steps.evaluate import evaluate

        with self.wired() as adapters:
            return evaluate(
                self.training,
                objects=adapters.objects,
                models=adapters.models,
                model_name=adapters.settings.model_name,
                load=adapters.load_classifier,
            )


class ReleaseModelOperator(MnistOpsOperator):
    """Make the bundle, register it, and promote it if it may be. Returns name, version and verdict.

    Args:
        evaluation: the evaluation's URI.
        kwargs: MnistOpsOperator's and BaseOperator's arguments.
    """

    template_fields = (*MnistOpsOperator.template_fields, "evaluation")

    def __init__(self, *, evaluation: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.evaluation = evaluation

    def execute(self, context: "Context") -> dict[str, object]:  # noqa: ARG002
        """Release."""
        from mnist_ops.steps.release import release

        with self.wired() as adapters:
            verdict = release(
                self.evaluation,
                objects=adapters.objects,
                models=adapters.models,
                model_name=adapters.settings.model_name,
                minimum_accuracy=adapters.settings.minimum_accuracy,
                now=lambda: datetime.now(UTC),
            )
            return verdict.document()
