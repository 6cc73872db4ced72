"""Runs: the list, and one run with its ledger, its records and the release of its held predictions."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup

from mnist_ops.domain.keys import Generation, run_key
from mnist_ops.domain.outcome_lines import window_lines
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.stages import STEPS
from mnist_ops.serving.access import Admin, Viewer
from mnist_ops.serving.airflow_links import AirflowLinks
from mnist_ops.serving.charts import probability_columns, share_bar
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.formats import percent
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.queries.gallery import Gallery, GalleryQuery, gallery
from mnist_ops.serving.queries.runs import LedgerDocument, find_run, run_list
from mnist_ops.serving.templating import page, url

router = APIRouter(include_in_schema=False)


@router.get("/runs")
def show_runs(
    request: Request,
    user: Viewer,
    pipeline: PipelineDep,
    dag_id: Annotated[str, Query(max_length=250)] = "",
    before: Annotated[str, Query(max_length=2_000)] = "",
) -> HTMLResponse:
    """The finished runs, newest first."""
    runs = run_list(pipeline.adapters.runs, before or None, dag_id.strip() or None, pipeline.now())
    return page(request, "runs.html.jinja", user=user, runs=runs, dag_id=dag_id.strip(), before=before)


class RunQuery(GalleryQuery):
    """The address of a run's page: which run, and the filter of its records.

    Attributes:
        run: the run key; or else `dag_id` and `run_id`.
        dag_id: the DAG.
        run_id: the DAG run.
        generation: the number of the generation; None for the newest.
        done: what was done before the page was shown again.
    """

    run: str = ""
    dag_id: str = ""
    run_id: str = ""
    generation: int | None = None
    done: str = ""


@router.get("/run")
def show_run(
    request: Request, user: Viewer, pipeline: PipelineDep, query: Annotated[RunQuery, Query()]
) -> HTMLResponse:
    """A run's ledger and a page of its records."""
    if not query.run and not (query.dag_id and query.run_id):
        raise Problem(400, "No run is named", "Choose one from the list of runs.")
    key = query.run or run_key(query.dag_id, query.run_id)
    found = find_run(pipeline.adapters.runs, key, query.generation)
    if found is None:
        detail = "Its snapshot failed or did not begin, or it is a run of a DAG that labels no records."
        raise Problem(404, "This run has taken no snapshot", detail)
    shown = None if found.ledger is None else gallery(pipeline, found.ledger, query)
    return page(
        request,
        "run.html.jinja",
        user=user,
        run=found,
        ledger=found.ledger,
        window="" if found.ledger is None else " ".join(window_lines(found.ledger["selection"])),
        stages=[] if found.ledger is None else _stages(found.ledger),
        gallery=shown,
        bars=probability_columns,
        query=query,
        labels=[] if found.ledger is None or shown is None else _labels(found.ledger, shown, query),
        outcomes=list(map(str, Outcome)),
        reasons=list(map(str, Reason)),
        in_airflow=AirflowLinks.of(request, found.dag_run),
    )


def _stages(ledger: LedgerDocument) -> list[tuple[str, LedgerDocument, Markup]]:
    """Each step's name and report, in their order, with a bar for its share of the time of all steps."""
    stages: Mapping[str, LedgerDocument] = ledger["stages"]
    total = sum(stage["seconds"] for stage in stages.values()) or 1
    shares = {name: stages[name]["seconds"] / total for name in STEPS if name in stages}
    return [
        (name, stages[name], share_bar([("accent", share)], percent(share))) for name, share in shares.items()
    ]


def _labels(ledger: LedgerDocument, shown: Gallery, query: GalleryQuery) -> list[str]:
    """The labels to choose from: the run's table as far as the page knows it."""
    known = next((card.probabilities for card in shown.cards if card.probabilities), ledger["labels"])
    return list(dict.fromkeys([*known, *([query.label] if query.label else [])]))


@router.post("/run/release")
def release_run(
    request: Request,
    user: Admin,
    pipeline: PipelineDep,
    run: Annotated[str, Form(max_length=2_000)],
    generation: Annotated[int, Form(ge=0)],
    reason: Annotated[str, Form(max_length=500)] = "",
) -> RedirectResponse:
    """Allow a held run to be published; the reason is kept with the user's name."""
    if not reason.strip():
        raise Problem(422, "A reason is missing", "Say why these predictions may be published.")
    pipeline.release_hold(Generation(run, generation), user.name, reason.strip())
    return RedirectResponse(url(request, "/run", run=run, generation=generation, done="released"), 303)
