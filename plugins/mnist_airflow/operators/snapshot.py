"""The snapshot: which records a run takes, and what it says of them."""

import logging
import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowSkipException

from mnist_airflow.operators.base import MnistOpsOperator, push_note, refuse_unknown_params

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mnist_airflow.windows import Interval, Request, RunFacts
    from mnist_ops.domain.keys import Generation
    from mnist_ops.domain.selection import Selection
    from mnist_ops.pipeline import Pipeline


class SnapshotRecordsOperator(MnistOpsOperator):
    """Take a snapshot of the records that this run selects.

    Returns the parts as strings, to expand over; the manifest's URI is the XCom `manifest`, what PART_NAME
    shows the XCom `part_names`, or the number of records of a preview the XCom `count`. Which records a run
    takes depends on its kind: see `mnist_airflow.windows`.

    Args:
        since: take records created at or after this (ISO 8601); only for runs by hand.
        until: take records created before this (ISO 8601); only for runs by hand.
        reclassify: never, failed, failed:REASON,REASON…, stale, changed or all; for runs by hand and
            backfills.
        limit: at most this many records; for runs by hand and backfills.
        preview: only count what would be taken, and skip the rest of the run.
        labelled: take all human-labelled records instead of the waiting ones.
    """

    lineage_records = "read"
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
        from mnist_ops.domain.outcome_lines import snapshot_lines

        with self.pipeline() as pipeline:
            self._warn_of_unknown_variables()
            refuse_unknown_params(context)
            selection, warnings = self._selection(context)
            for line in warnings:
                self.log.warning("%s", line)
            if self.preview:
                self._count(context, pipeline, selection)
            uri = self.wrote(pipeline.snapshot(_generation(context), selection, _attempt(context)))
            manifest = pipeline.manifest(uri)
            context["ti"].xcom_push("manifest", uri)
            context["ti"].xcom_push("part_names", manifest.part_names())
            push_note(context, [*snapshot_lines(manifest), *warnings])
            return pipeline.parts(uri)

    def _warn_of_unknown_variables(self) -> None:
        from mnist_ops.domain.outcome_lines import log_lines, wrapped
        from mnist_ops.variables import unknown_variables

        for warning in unknown_variables(os.environ).values():
            log_lines(self.log, wrapped(warning), logging.WARNING)

    def _count(self, context: "Context", pipeline: "Pipeline", selection: "Selection") -> NoReturn:
        from mnist_ops.domain.manifest import selection_document
        from mnist_ops.domain.outcome_lines import log_lines, window_lines

        count = pipeline.count(selection)
        counted = f"{count} records would be taken; nothing was written"
        lines = [counted, *window_lines(selection_document(selection))]
        log_lines(self.log, lines)
        context["ti"].xcom_push("count", count)
        push_note(context, lines)
        raise AirflowSkipException(counted)

    def _selection(self, context: "Context") -> "tuple[Selection, list[str]]":
        """The selection, and what to warn of."""
        from mnist_airflow.windows import reprocessing_lines, selection_of_run
        from mnist_ops.domain.selection import Selection, whole_milliseconds

        at = datetime.now(UTC)
        if self.labelled:
            return Selection(at=whole_milliseconds(at), labelled=True), []
        facts, request = _facts(context), self._request()
        selection = selection_of_run(facts, request, at, lambda moment: _inferred(context, moment))
        return selection, reprocessing_lines(facts, request)

    def _request(self) -> "Request":
        from mnist_airflow.windows import Request, moment_of
        from mnist_ops.domain.selection import parse_reclassify

        reclassify, reasons = parse_reclassify(self.reclassify)
        return Request(
            since=moment_of(self.since, "since"),
            until=moment_of(self.until, "until"),
            reclassify=reclassify,
            reasons=reasons,
            limit=self.limit,
            preview=self.preview,
        )


def _facts(context: "Context") -> "RunFacts":
    from mnist_airflow.windows import RunFacts

    run = context["dag_run"]
    start, end = run.data_interval_start, run.data_interval_end
    return RunFacts(
        run_type=str(getattr(run.run_type, "value", run.run_type)),
        run_after=run.run_after,
        interval=(start, end) if start is not None and end is not None else None,
        logical_date=run.logical_date,
        clear_number=run.clear_number,
    )


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
