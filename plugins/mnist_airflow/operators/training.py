"""The steps from labelled records to a released model."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from mnist_airflow.assets import update_assets, update_no_asset
from mnist_airflow.operators.base import (
    MnistOpsOperator,
    permanent_errors_fail,
    push_note,
    refuse_unknown_params,
    uris_of,
)
from mnist_airflow.reports import ReportLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mnist_ops.steps.promote import GateResult

# Exit codes of the training process, see mnist_ops.cli. No retry can fix wrong usage or settings (2) or a
# permanent error (3); a transient one (4) may pass.
PERMANENT_EXITS = frozenset({2, 3})
TRANSIENT_EXIT = 4

# Seconds the training process has to exit after SIGTERM. Airflow's supervisor kills the task about five
# seconds after its own SIGTERM, so this must be shorter. A kill loses nothing: checkpoints are atomic.
_TERMINATION_TIMEOUT_S = 3.0


class BuildDatasetOperator(MnistOpsOperator):
    """Make a data set of a labelled snapshot and its image shards. Returns its manifest's URI.

    Args:
        manifest: the snapshot's manifest.
        images: the URIs of all its image shards.
    """

    lineage_inputs = ("manifest", "images")
    template_fields = (*MnistOpsOperator.template_fields, "manifest", "images")

    def __init__(self, *, manifest: str, images: str | Sequence[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.manifest = manifest
        self.images = images

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Build."""
        with self.pipeline() as pipeline:
            shards = uris_of(self.images, pipeline.manifest(self.manifest).generation)
            return self.wrote(pipeline.build_dataset(self.manifest, shards))


class PlanTrainingsOperator(MnistOpsOperator):
    """Make the configurations to train from the run's parameters. Returns a JSON string for each trial.

    A value that is not allowed fails the task; the message names the field, the value and the allowed ones.
    Put this task first.

    Args:
        config: hyperparameters by name, see `mnist_ops.vision.config.schema`; the rest is the default.
        fields: single ones by name, which go before those in `config`; None is left out.
        sweep: lists of values by name: every combination is a trial. They go before both.
    """

    template_fields = (*MnistOpsOperator.template_fields, "config", "fields", "sweep")

    def __init__(
        self,
        *,
        config: Mapping[str, object] | str | None = None,
        fields: Mapping[str, object] | None = None,
        sweep: Mapping[str, Sequence[object]] | str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.fields = fields
        self.sweep = sweep

    def execute(self, context: "Context") -> list[str]:
        """Plan."""
        from mnist_ops.vision.config.sweep import trials

        with permanent_errors_fail():
            refuse_unknown_params(context)
            config = _object(self.config, "config") | _given(self.fields)
            return [trial.model_dump_json() for trial in trials(config, _object(self.sweep, "sweep"))]


def _object(value: Mapping[str, Any] | str | None, name: str) -> dict[str, Any]:
    """A JSON object from a form, from a configuration, or as text."""
    from mnist_ops.domain.errors import Permanent

    try:
        found = json.loads(value) if isinstance(value, str) else value or {}
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise Permanent(f"{name}: {value!r} is no JSON object")
    return dict(found)


def _given(values: Mapping[str, object] | None) -> dict[str, object]:
    return {name: value for name, value in (values or {}).items() if value is not None}


class TrainModelOperator(MnistOpsOperator):
    """Train a network in a fresh process. Returns the training's URI.

    The process is `mnist-ops steps train`. CUDA must not be used in a forked process, and a process that
    ends frees all GPU memory. Its log lines appear in the task's log. `{{ trial }}` in `map_index_template`
    shows this trial's values of the swept hyperparameters.

    Args:
        dataset: the data set's manifest.
        config: hyperparameters by name, see `mnist_ops.vision.config.schema`; None is left out. Also
            as a JSON string, one of what PlanTrainingsOperator returns.
        swept: the names of the hyperparameters that differ between the trials of a sweep.
    """

    lineage_inputs = ("dataset",)
    template_fields = (*MnistOpsOperator.template_fields, "dataset", "config", "swept")

    def __init__(
        self,
        *,
        dataset: str,
        config: Mapping[str, object] | str | None = None,
        swept: Iterable[str] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.config = config
        self.swept = swept
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: "Context") -> str:
        """Train."""
        from mnist_ops.domain.stages import StageReport

        with permanent_errors_fail():
            config = _given(_object(self.config, "config"))
        context["trial"] = _trial_name(config, self.swept or ())  # type: ignore[typeddict-unknown-key]
        with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
            result, report = Path(folder) / "training", Path(folder) / "report"
            command = [sys.executable, "-m", "mnist_ops", "steps", "train", "--dataset", self.dataset]
            command += ["--config-json", json.dumps(config), "--result", str(result)]
            command += ["--report", str(report), "--end-with-stdin"]
            self._process = subprocess.Popen(
                command,
                env=self._environment(),
                # Kept open: if this process is killed, the pipe closes and the training ends too.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            with self._process as process:
                try:
                    for line in process.stdout or ():
                        level, text = _level_and_text(line)
                        self.log.log(level, "%s", text)
                except BaseException:
                    # For example the task's timeout. `with` waits for the process, so end it first.
                    self.on_kill()
                    raise
            _require_success(process.returncode)
            self.send_stage(StageReport.of(json.loads(report.read_text())))
            return self.wrote(result.read_text())

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
            process.wait(_TERMINATION_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _level_and_text(line: str) -> tuple[int, str]:
    """A line of the training process: its log lines begin with their level, any other line is INFO."""
    level, _, text = line.rstrip().partition(" ")
    known = logging.getLevelNamesMapping().get(level)
    return (logging.INFO, line.rstrip()) if known is None else (known, text)


def _require_success(exit_code: int) -> None:
    from mnist_ops.domain.errors import Transient

    if exit_code in PERMANENT_EXITS:
        raise AirflowFailException("training failed permanently: see the lines above")
    if exit_code == TRANSIENT_EXIT:
        raise Transient("the training may work later: see the lines above")
    if exit_code != 0:
        raise AirflowException(f"the training process ended with {exit_code}")


def _trial_name(config: Mapping[str, Any], swept: Iterable[str]) -> str:
    """Such as `kernel_sizes 3,5`; without a sweep the network's name."""

    def words(value: object) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    named = "; ".join(f"{name} {words(config[name])}" for name in swept if name in config)
    return named or str(config.get("network", "training"))


class ChooseTrainingOperator(MnistOpsOperator):
    """Pick the training that did best on the validation fold. Returns its URI.

    The table of all of them is the XCom `sweep`.

    Args:
        manifest: the snapshot's manifest.
        trainings: the URIs of all trainings of the run.
    """

    template_fields = (*MnistOpsOperator.template_fields, "manifest", "trainings")

    def __init__(self, *, manifest: str, trainings: str | Sequence[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.manifest = manifest
        self.trainings = trainings

    def execute(self, context: "Context") -> str:
        """Choose."""
        from mnist_ops.steps.choose import read_choice

        with self.pipeline() as pipeline:
            sweep = pipeline.choose(uris_of(self.trainings, pipeline.manifest(self.manifest).generation))
            context["ti"].xcom_push("sweep", sweep)
            return read_choice(pipeline.adapters.objects, sweep).winner


class EvaluateModelOperator(MnistOpsOperator):
    """Measure a training, and the champion, on the same test fold. Returns the evaluation's URI.

    Args:
        training: the training's URI.
    """

    lineage_inputs = ("training",)
    template_fields = (*MnistOpsOperator.template_fields, "training")

    def __init__(self, *, training: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.training = training

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Evaluate."""
        with self.pipeline() as pipeline:
            return self.wrote(pipeline.evaluate(self.training))


class ReleaseModelOperator(MnistOpsOperator):
    """Make the bundle and register it as a candidate. Returns the gate's result, for PromoteModelOperator.

    Args:
        evaluation: the evaluation's URI.
    """

    lineage_inputs = ("evaluation",)
    template_fields = (*MnistOpsOperator.template_fields, "evaluation")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, evaluation: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.evaluation = evaluation

    def execute(self, context: "Context") -> dict[str, object]:
        """Release."""
        with self.pipeline() as pipeline:
            gate_result = pipeline.release(self.evaluation)
        self.wrote(gate_result.bundle.uri)
        decision = "the gate allows its promotion" if gate_result.promote else "it stays a candidate"
        push_note(context, [f"released {_named(gate_result)}; {decision}: {gate_result.why}"])
        update_assets(self, context, _identity(gate_result))
        return gate_result.document()


class PromoteModelOperator(MnistOpsOperator):
    """Make a released model the champion, if the gate allows it.

    Returns the gate's result, with whether the model was promoted; if it was not, no asset is updated.
    The registry keeps who promoted it: the person who approved it, or else the run.

    Args:
        gate_result: what ReleaseModelOperator returned.
        approval: what ApprovePromotionOperator returned; None where nobody was asked.
    """

    template_fields = (*MnistOpsOperator.template_fields, "gate_result", "approval")

    def __init__(
        self,
        *,
        gate_result: Mapping[str, object] | Any,  # noqa: ANN401 (before it is rendered, the output of a task)
        approval: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.gate_result = gate_result
        self.approval = approval

    def execute(self, context: "Context") -> dict[str, object]:
        """Promote."""
        from mnist_ops.domain.keys import run_key
        from mnist_ops.steps.promote import GateResult

        with self.pipeline() as pipeline:
            gate_result, approval = GateResult.of(self.gate_result), self.approval or {}
            person = (approval.get("responded_by_user") or {}).get("name")
            comment = (approval.get("params_input") or {}).get("comment")
            who = person or run_key(context["dag_run"].dag_id, context["dag_run"].run_id)
            why = f"{gate_result.why}; {comment}" if comment else None
            result = pipeline.promote(gate_result, who, why)
        if result.promoted:
            update_assets(self, context, _identity(result))
        else:
            update_no_asset(self)
        now = "is the champion" if result.promoted else f"was not promoted: {result.why}"
        push_note(context, [f"{_named(result)} {now}"])
        return result.document()


def _named(gate_result: "GateResult") -> str:
    return f"{gate_result.bundle.name} {gate_result.bundle.version}"


def _identity(gate_result: "GateResult") -> dict[str, object]:
    """Which model an asset event is about."""
    bundle = gate_result.bundle
    return {"model": bundle.name, "version": bundle.version, "digest": bundle.digest}
