"""The steps from waiting records to published predictions."""

import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mnist_airflow.operators.base import MnistOpsOperator, refuse_unknown_params, uris_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mnist_airflow.windows import Interval
    from mnist_ops.domain.keys import Generation
    from mnist_ops.domain.selection import Selection


class SnapshotRecordsOperator(MnistOpsOperator):
    """Take a snapshot of the records that this run selects.

    Returns the parts as strings, to expand over; the manifest's URI is the XCom `manifest`.
    Which records a run takes depends on its kind: see `mnist_airflow.windows`.

    Args:
        since: take records created at or after this (ISO 8601); only for runs by hand.
        until: take records created before this (ISO 8601); only for runs by hand.
        reclassify: never, failed, failed:REASON,REASON…, stale, changed or all; for runs by hand and
            backfills.
        limit: at most this many records; for runs by hand and backfills.
        preview: only count what would be taken, and skip the rest of the run.
        labelled: take all human-labelled records instead of the waiting ones.
    """

    template_fields = (*MnistOpsOperator.template_fields, "since", "until", "reclassify", "limit", "preview")

    def __init__(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        reclassify: str = "never",
        limit: int | None = None,
        preview: bool = False,
        labelled: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.since = since
        self.until = until
        self.reclassify = reclassify
        self.limit = limit
        self.preview = preview
        self.labelled = labelled

    def execute(self, context: "Context") -> list[str]:
        """Take the snapshot, or adopt the one that this generation has."""
        with self.pipeline() as pipeline:
            self._warn_of_unknown_variables()
            refuse_unknown_params(context)
            selection = self._selection(context)
            if self.preview:
                count = pipeline.count(selection)
                raise AirflowSkipException(f"preview: {count} records would be taken, nothing was written")
            manifest = pipeline.snapshot(_generation(context), selection, _attempt(context))
            context["ti"].xcom_push("manifest", manifest)
            return pipeline.parts(manifest)

    def _warn_of_unknown_variables(self) -> None:
        from mnist_ops.variables import unknown_variables

        for warning in unknown_variables(os.environ).values():
            self.log.warning(warning)

    def _selection(self, context: "Context") -> "Selection":
        from mnist_airflow.windows import Request, RunFacts, moment_of, selection_of_run
        from mnist_ops.domain.selection import Selection, parse_reclassify, whole_milliseconds

        run, at = context["dag_run"], datetime.now(UTC)
        if self.labelled:
            return Selection(at=whole_milliseconds(at), labelled=True)
        start, end = run.data_interval_start, run.data_interval_end
        facts = RunFacts(
            run_type=str(getattr(run.run_type, "value", run.run_type)),
            run_after=run.run_after,
            interval=(start, end) if start is not None and end is not None else None,
            logical_date=run.logical_date,
        )
        reclassify, reasons = parse_reclassify(self.reclassify)
        request = Request(
            since=moment_of(self.since, "since"),
            until=moment_of(self.until, "until"),
            reclassify=reclassify,
            reasons=reasons,
            limit=self.limit,
        )
        return selection_of_run(facts, request, at, lambda moment: _inferred(context, moment))


def _generation(context: "Context") -> "Generation":
    from mnist_ops.domain.keys import Generation, run_key

    run = context["dag_run"]
    return Generation(run_key(run.dag_id, run.run_id), run.clear_number)


def _attempt(context: "Context") -> str:
    """A new name for every try, that also tells which try it was."""
    return f"{context['dag_run'].clear_number}-{context['ti'].try_number}-{secrets.token_hex(4)}"


def _inferred(context: "Context", logical_date: datetime) -> "Interval":
    """The interval that Airflow infers for a run by hand."""
    import pendulum
    from airflow.serialization.encoders import coerce_to_core_timetable

    timetable = coerce_to_core_timetable(context["dag"].timetable)
    inferred = timetable.infer_manual_data_interval(run_after=pendulum.instance(logical_date))
    return inferred.start, inferred.end


class FetchImagesOperator(MnistOpsOperator):
    """Fetch the images of one part of a snapshot. Returns the image shard's URI.

    Args:
        part: the part, one of what SnapshotRecordsOperator returns.
        reuse_images: take images that the newest data set has for the same URL from there.
    """

    template_fields = (*MnistOpsOperator.template_fields, "part")

    def __init__(self, *, part: str, reuse_images: bool = False, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.part = part
        self.reuse_images = reuse_images

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Fetch."""
        with self.pipeline() as pipeline:
            reuse = pipeline.adapters.datasets.newest_dataset() if self.reuse_images else None
            return pipeline.fetch(self.part, reuse_dataset=reuse)


class ClassifyImagesOperator(MnistOpsOperator):
    """Classify an image shard with the bundle its snapshot pinned. Returns the prediction shard's URI.

    Args:
        images: the image shard's URI.
    """

    template_fields = (*MnistOpsOperator.template_fields, "images")

    def __init__(self, *, images: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.images = images

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Classify."""
        with self.pipeline() as pipeline:
            return pipeline.classify(self.images)


class AssessRunOperator(MnistOpsOperator):
    """Compare a run's failures with the failure budget.

    Returns the prediction shards, to expand over once all parts are assessed (Airflow 3.3 cannot map
    over what a mapped task group returns); the assessment's URI is the XCom `assessment`.

    Args:
        manifest: the snapshot's manifest.
        predictions: the URIs of all its prediction shards.
    """

    template_fields = (*MnistOpsOperator.template_fields, "manifest", "predictions")

    def __init__(self, *, manifest: str, predictions: str | Sequence[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.manifest = manifest
        self.predictions = predictions

    def execute(self, context: "Context") -> list[str]:
        """Assess."""
        with self.pipeline() as pipeline:
            shards = uris_of(self.predictions, pipeline.manifest(self.manifest).generation)
            context["ti"].xcom_push("assessment", pipeline.assess(self.manifest, shards))
            return shards


class PublishPredictionsOperator(MnistOpsOperator):
    """Write one prediction shard into the records. Returns the outcome shard's URI.

    Args:
        predictions: the prediction shard's URI.
        assessment: the assessment's URI; where it holds the run, only failures are written.
    """

    template_fields = (*MnistOpsOperator.template_fields, "predictions", "assessment")

    def __init__(self, *, predictions: str, assessment: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.predictions = predictions
        self.assessment = assessment

    def execute(self, context: "Context") -> str:  # noqa: ARG002
        """Publish."""
        with self.pipeline() as pipeline:
            return pipeline.publish(self.predictions, self.assessment)


class ReconcileRunOperator(MnistOpsOperator):
    """Write the run's ledger; fail unless every record is accounted for. Returns the outcomes.

    Give it the trigger rule ALL_DONE: it must run regardless of the outcome of the others.

    Args:
        manifest: the snapshot's manifest; None when the snapshot failed or was a preview.
        outcomes: the URIs of the outcome shards that there are.
        preview: whether the snapshot was a preview; then this task is skipped too.
    """

    template_fields = (*MnistOpsOperator.template_fields, "manifest", "outcomes", "preview")

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

    def execute(self, context: "Context") -> dict[str, int]:  # noqa: ARG002
        """Reconcile."""
        from mnist_ops.domain.errors import Permanent

        with self.pipeline() as pipeline:
            if self.preview:
                raise AirflowSkipException("preview: nothing was written, so there is no ledger")
            if not self.manifest:
                raise Permanent("the snapshot left no manifest: see the log of its task")
            shards = uris_of(self.outcomes, pipeline.manifest(self.manifest).generation)
            return dict(pipeline.reconcile(self.manifest, shards).outcomes)
