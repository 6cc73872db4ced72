"""Audits: the accuracy in production, by a random sample that people label without seeing the prediction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, cast

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel

from mnist_ops.domain.drawn_audits import LARGEST_SAMPLE
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.moments import moment_of_words
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.access import Admin, Reviewer
from mnist_ops.serving.charts import probability_bars
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.queries import audits, review
from mnist_ops.serving.queries.review import Said
from mnist_ops.serving.queries.review_items import items_of_audit
from mnist_ops.serving.templating import page, url
from mnist_ops.steps.draw_audit import AuditRequest

router = APIRouter(include_in_schema=False)

_LISTED = 20
# Predictions that one request may read: about ten seconds.
_MOST_READ = 500_000
_RUNS_OFFERED = 50
_STRATA = {
    "confidence": "confidence (more labels where the network doubts)",
    "none": "none (a simple random sample)",
    "label": "predicted label",
    "label-and-confidence": "predicted label and confidence",
}


class Draw(BaseModel):
    """What the form of a draw sends.

    Attributes:
        run: the id of a generation; empty for all runs that finished since a time.
        since: a time in words; empty for every run.
        size: how many predictions people are to label.
        strata: a name of `STRATA`.
    """

    run: str = ""
    since: str = ""
    size: int = 200
    strata: str = "confidence"

    def request(self, who: str, now: datetime) -> AuditRequest:
        """The draw that is asked for.

        Raises:
            UsageError: the time or the run cannot be read.
        """
        since = moment_of_words(self.since, "Finished since", now) if self.since.strip() else None
        run, _, number = self.run.rpartition("/")
        if self.run and not (run and number.isdecimal()):
            raise UsageError(f"run {self.run!r}: choose one of the list")
        generation = Generation(run, int(number)) if self.run else None
        return AuditRequest(who, generation, since, self.size, self.strata, most=_MOST_READ)


@router.get("/review/audit")
def audit_page(
    request: Request,
    user: Reviewer,
    steps: PipelineDep,
    id: str | None = None,  # noqa: A002 (the name in the address)
    said: Said | None = None,
) -> HTMLResponse:
    """The audits, or one of them with the next prediction to label."""
    if id is None:
        return page(
            request,
            "audits.html.jinja",
            user=user,
            audits=steps.adapters.audits.newest(_LISTED),
            runs=_runs(steps),
            strata=_STRATA,
            largest=LARGEST_SAMPLE,
        )
    audit = audits.audit_named(steps, id)
    items = items_of_audit(steps, audit, audits.next_drawn(steps, audit, user.name, 1))
    return page(
        request,
        "audit.html.jinja",
        user=user,
        audit=audit,
        item=items[0] if items else None,
        session=review.session(steps, user.name),
        said=said,
        bars=probability_bars,
    )


@router.post("/review/audit/draw")
def draw(request: Request, user: Admin, steps: PipelineDep, given: Annotated[Draw, Form()]) -> Response:
    """Draw a sample, and show it."""
    audit = steps.draw_audit(given.request(user.name, steps.now()))
    return RedirectResponse(url(request, "/review/audit", id=audit.id), 303)


def _runs(steps: Pipeline) -> list[tuple[str, Mapping[str, object]]]:
    """The newest runs that published predictions, by the id of their generation."""
    ledgers = steps.adapters.runs.newest_ledgers(_RUNS_OFFERED, now=steps.now())
    return [
        (str(ledger["_id"]), ledger)
        for ledger in ledgers
        if cast("Mapping[str, int]", ledger["outcomes"]).get(Outcome.PREDICTED)
    ]
