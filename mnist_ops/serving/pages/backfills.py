"""What a backfill would do, before it is started."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field, field_validator

from mnist_ops.domain.backfill_windows import DAG_ID, MAX_ACTIVE_RUNS, BackfillRequest
from mnist_ops.domain.backfill_words import estimate_facts, estimate_notes, window_rows
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.moments import iso_moment
from mnist_ops.domain.quantities import seconds
from mnist_ops.domain.selection import Reclassify, parse_reclassify
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.access import Viewer
from mnist_ops.serving.airflow_links import airflow_root
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.templating import page
from mnist_ops.steps.preview_backfill import BackfillPreview

router = APIRouter(include_in_schema=False)

_COUNTING_LIMIT_S = 20.0
_A_WEEK = timedelta(days=7)


class BackfillForm(BaseModel):
    """What the form asks for, as it was typed; an empty field counts as left out.

    Attributes:
        since: the first day, as ISO 8601; None before anything was asked.
        until: the day after the last one.
        reclassify: never, failed, failed:REASON,…, stale, changed or all.
        limit: at most this number of records for each run.
        max_active_runs: runs at the same time.
    """

    since: str | None = None
    until: str | None = None
    reclassify: str = str(Reclassify.NEVER)
    limit: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_active_runs: Annotated[int, Field(ge=1, le=100)] = MAX_ACTIVE_RUNS

    @field_validator("since", "until", "limit", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value


@router.get("/backfills")
def preview(
    request: Request, user: Viewer, pipeline: PipelineDep, form: Annotated[BackfillForm, Query()]
) -> HTMLResponse:
    """The form, and under it what the backfill would do."""
    previewed, problem = None, None
    if form.since is not None or form.until is not None:
        try:
            previewed = _preview(pipeline, form)
        except UsageError as error:
            problem = str(error)
    today = pipeline.now()
    return page(
        request,
        "backfills.html.jinja",
        status=400 if problem else 200,
        user=user,
        dag_id=DAG_ID,
        form=form,
        since=form.since or f"{today - _A_WEEK:%Y-%m-%d}",
        until=form.until or f"{today:%Y-%m-%d}",
        schedule=pipeline.settings.classify_schedule,
        policies=list(Reclassify),
        previewed=previewed,
        problem=problem,
        shown=_shown(previewed) if previewed else {},
        airflow_root=airflow_root(request),
    )


def _preview(pipeline: Pipeline, form: BackfillForm) -> BackfillPreview:
    if form.since is None or form.until is None:
        raise UsageError("since, until: give both days")
    if missing := pipeline.adapters.records.missing_indexes():
        raise UsageError(f"the index {', '.join(missing)} is missing: run `mnist-ops init`, then try again")
    policy, reasons = parse_reclassify(form.reclassify)
    asked = BackfillRequest(
        since=iso_moment(form.since, "since"),
        until=iso_moment(form.until, "until"),
        reclassify=policy,
        reasons=reasons,
        limit=form.limit,
        max_active_runs=form.max_active_runs,
    )
    return pipeline.preview_backfill(asked, within_s=_COUNTING_LIMIT_S)


def _shown(previewed: BackfillPreview) -> dict[str, object]:
    """What the template shows of a preview, in words."""
    estimate, request = previewed.estimate, previewed.request
    kind, rows = window_rows([(each.window, each.records) for each in previewed.windows])
    steps = estimate.stage_seconds if estimate else {}
    return {
        "kind": kind,
        "rows": rows,
        "facts": list(estimate_facts(estimate, request.max_active_runs)) if estimate else [],
        "steps": [(name, seconds(amount.about)) for name, amount in steps.items()],
        "notes": list(estimate_notes(estimate, previewed.past_runs, request.reclassify)),
    }
