"""The steps from a snapshot to published predictions and their ledger."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mnist_airflow.assets import update_assets, update_no_asset
from mnist_airflow.metrics import ledger_metrics
from mnist_airflow.operators.base import MnistOpsOperator, push_failures_logged, push_note, uris_of
from mnist_airflow.operators.snapshot import SnapshotRecordsOperator
from mnist_airflow.run_link import RunLink
from mnist_ops.domain.keys import part_in_name, split_part_reference

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mnist_ops.domain.outcomes import Ledger


_NO_MANIFEST = "the snapshot left no manifest: see the log of its task"

# The `map_index_template` of a task for each part: `part 3 of 12, 20,000 records`, also while it runs. The
# snapshot's task is called `snapshot`; the operators of this module know the number of their part.
PART_NAME = "{{ ti.xcom_pull(task_ids='snapshot', key='part_names')[task.part_number] }}"


class FetchImagesOperator(MnistOpsOperator):
    """Fetch the images of one part of a snapshot. Returns the image shard's URI.

    Args:
        part: the part, one of what SnapshotRecordsOperator returns.
        reuse_images: take images that the newest data set has for the same URL from there.
    """

    lineage_inputs = ("part",)
    template_fields = (*MnistOpsOperator.template_fields, "part")

    def __init__(self, *, part: str, reuse_images: bool = False, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.part = part
        self.reuse_images = reuse_images

    @property
    def part_number(self) -> int:
        """The number of the part, from 0."""
        return split_part_reference(self.part)[1]

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Fetch."""
        with self.pipeline() as pipeline:
            reuse = pipeline.adapters.datasets.newest_dataset() if self.reuse_images else None
            return self.wrote(pipeline.fetch(self.part, reuse_dataset=reuse))


class ClassifyImagesOperator(MnistOpsOperator):
    """Classify an image shard with the bundle its snapshot pinned. Returns the prediction shard's URI.

    Args:
        images: the image shard's URI.
    """

    lineage_inputs = ("images",)
    template_fields = (*MnistOpsOperator.template_fields, "images")

    def __init__(self, *, images: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.images = images

    @property
    def part_number(self) -> int:
        """The number of the part, from 0."""
        return part_in_name(self.images)

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Classify."""
        with self.pipeline() as pipeline:
            return self.wrote(pipeline.classify(self.images))


class AssessRunOperator(MnistOpsOperator):
    """Compare a run's failures with the failure budget.

    Returns the prediction shards, to expand over once all parts are assessed (Airflow 3.3 cannot map
    over what a mapped task group returns); the assessment's URI is the XCom `assessment`.

    Args:
        manifest: the snapshot's manifest.
        predictions: the URIs of all its prediction shards.
    """

    lineage_inputs = ("manifest", "predictions")
    template_fields = (*MnistOpsOperator.template_fields, "manifest", "predictions")
    operator_extra_links = (RunLink(),)

    def __init__(self, *, manifest: str, predictions: str | Sequence[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.manifest = manifest
        self.predictions = predictions

    def execute(self, context: "Context") -> list[str]:
        """Assess."""
        with self.pipeline() as pipeline:
            shards = uris_of(self.predictions, pipeline.manifest(self.manifest).generation)
            context["ti"].xcom_push("assessment", self.wrote(pipeline.assess(self.manifest, shards)))
            return shards


class PublishPredictionsOperator(MnistOpsOperator):
    """Write one prediction shard into the records. Returns the outcome shard's URI.

    Args:
        predictions: the prediction shard's URI.
        assessment: the assessment's URI; where it holds the run, only failures are written.
    """

    lineage_inputs = ("predictions", "assessment")
    lineage_records = "written"
    template_fields = (*MnistOpsOperator.template_fields, "predictions", "assessment")
    operator_extra_links = (RunLink(),)

    def __init__(self, *, predictions: str, assessment: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.predictions = predictions
        self.assessment = assessment

    @property
    def part_number(self) -> int:
        """The number of the part, from 0."""
        return part_in_name(self.predictions)

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Publish."""
        with self.pipeline() as pipeline:
            return self.wrote(pipeline.publish(self.predictions, self.assessment))


class ReconcileRunOperator(MnistOpsOperator):
    """Write the run's ledger; fail unless every record is accounted for. Returns the outcomes.

    The run's numbers are the XCom `counts`, also if it fails. Its assets are updated only if it predicted
    records. Give it the trigger rule ALL_DONE: it must run regardless of the outcome of the others.

    Args:
        manifest: the snapshot's manifest; None when the snapshot failed or was a preview.
        outcomes: the URIs of the outcome shards that there are.
        preview: whether the snapshot counted its records and skipped itself; then this task is skipped too.
    """

    lineage_inputs = ("manifest", "outcomes")
    template_fields = (*MnistOpsOperator.template_fields, "manifest", "outcomes", "preview")
    operator_extra_links = (RunLink(),)

    def __init__(
        self,
        *,
        manifest: str | None,
        outcomes: str | Sequence[str] | None,
        preview: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.outcomes = outcomes
        self.preview = preview

    def execute(self, context: "Context") -> dict[str, int]:
        """Reconcile."""
        from mnist_ops.domain.errors import Permanent
        from mnist_ops.domain.outcomes import Outcome
        from mnist_ops.domain.run_summary import RunFailed

        with self.pipeline() as pipeline:
            if not self._snapshot_ended("skipped" if self.preview else "success", context):
                raise Permanent(_NO_MANIFEST)
            if self.preview:
                raise AirflowSkipException("preview: nothing was written, so there is no ledger")
            if not self.manifest:
                raise Permanent(_NO_MANIFEST)
            shards = uris_of(self.outcomes, pipeline.manifest(self.manifest).generation)
            try:
                ledger = pipeline.reconcile(self.manifest, shards)
            except RunFailed as failed:
                self.send_metrics(ledger_metrics(failed.ledger))
                with push_failures_logged():
                    _push_ledger(context, failed.ledger)
                raise
        self.send_metrics(ledger_metrics(ledger))
        _push_ledger(context, ledger)
        if ledger.outcomes[Outcome.PREDICTED]:
            update_assets(self, context, _news(ledger))
        else:
            update_no_asset(self)
        return dict(ledger.outcomes)

    def _snapshot_ended(self, state: str, context: "Context") -> bool:
        """Whether the snapshots before this task ended so, as far as there are any.

        Of a snapshot that failed before it started, Airflow still has the manifest of the generation before.
        The number of that generation tells nothing: clearing later tasks does not take another snapshot.
        """
        before = self.upstream_list if self.has_dag() else []
        snapshots = [task.task_id for task in before if isinstance(task, SnapshotRecordsOperator)]
        if not snapshots:
            return True
        run = context["dag_run"]
        of_runs = context["ti"].get_task_states(run.dag_id, task_ids=snapshots, run_ids=[run.run_id])
        return set(of_runs[run.run_id].values()) == {state}


def _push_ledger(context: "Context", ledger: "Ledger") -> None:
    from mnist_ops.domain.run_summary import counts, summary_lines

    context["ti"].xcom_push("counts", counts(ledger))
    push_note(context, summary_lines(ledger))


def _news(ledger: "Ledger") -> dict[str, object]:
    """What an asset event tells: how many records were predicted, by which model, and of which window."""
    from mnist_ops.domain.outcomes import Outcome

    return {
        "run": ledger.generation.run,
        "generation": ledger.generation.number,
        "records": ledger.outcomes[Outcome.PREDICTED],
        "since": ledger.selection["since"],
        "until": ledger.selection["until"],
        "model": ledger.model.name if ledger.model else None,
        "model_version": ledger.model.version if ledger.model else None,
    }
