"""Review: the least certain predictions, answered by key, by mouse or by touch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel

from mnist_ops.domain.reviewing import BATCH
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.access import Reviewer, User
from mnist_ops.serving.charts import probability_bars
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.pages import audits as audit_pages
from mnist_ops.serving.queries import audits, review
from mnist_ops.serving.queries.review import Said
from mnist_ops.serving.queries.review_items import ReviewItem, items_of_audit, items_of_records
from mnist_ops.serving.templating import fragment, page, url

router = APIRouter(include_in_schema=False)
router.include_router(audit_pages.router)

_LONGEST = 2_048  # characters of an id
_HELD = 50  # records that a page may hold and not want again


class Answer(BaseModel):
    """What a form of one record sends.

    Attributes:
        record: its id as canonical Extended JSON.
        seen: the digest of what was seen of it; empty in an audit.
        label: the chosen label; empty if none fits, in an audit only.
        audit: the audit that asks.
        position: in the audit's sample.
    """

    record: str
    seen: str = ""
    label: str = ""
    audit: str | None = None
    position: int = -1


@router.get("/review")
def review_page(
    request: Request, user: Reviewer, steps: PipelineDep, record: str | None = None, said: Said | None = None
) -> HTMLResponse:
    """The page: one record, or the one that was asked for first; the rest is fetched ahead."""
    items = items_of_records(steps, review.next_records(steps, user.name, 1, first=record))
    return page(
        request,
        "review.html.jinja",
        user=user,
        item=items[0] if items else None,
        session=review.session(steps, user.name),
        remaining=review.remaining(steps),
        said=said,
        bars=probability_bars,
    )


@router.get("/review/next")
def review_next(
    request: Request,
    user: Reviewer,
    steps: PipelineDep,
    audit: str | None = None,
    without: Annotated[list[str], Query(max_length=_HELD)] = [],  # noqa: B006 (FastAPI copies it)
) -> JSONResponse:
    """The next records, as pieces of the page, leased to the reviewer; and how many there are."""
    if audit is None:
        items = items_of_records(steps, review.next_records(steps, user.name, BATCH, without))
        left = str(review.remaining(steps))
    else:
        drawn = audits.audit_named(steps, audit)
        items = items_of_audit(steps, drawn, audits.next_drawn(steps, drawn, user.name, BATCH, without))
        left = f"{len(drawn.sample) - drawn.answered:,}"
    return JSONResponse({"items": [_piece(request, item) for item in items], "remaining": left})


@dataclass(frozen=True, slots=True)
class _Reply:
    """What became of what a reviewer did.

    Attributes:
        said: in one word.
        audit: the audit that it was about.
        record: the record to show next.
        items: the same with its pictures, for the script.
    """

    said: Said
    audit: str | None = None
    record: str | None = None
    items: Sequence[ReviewItem] = ()


@router.post("/review/answers")
def give_answer(
    request: Request, user: Reviewer, steps: PipelineDep, given: Annotated[Answer, Form()]
) -> Response:
    """Write an answer into its record, and into its audit."""
    if given.audit is None:
        said = review.answer(steps, user.name, given.record, given.seen, given.label)
    else:
        said = audits.answer_drawn(steps, user.name, given.audit, given.position, given.label or None)
    return _replied(request, user, steps, _Reply(said, given.audit))


@router.post("/review/skip")
def skip(request: Request, user: Reviewer, steps: PipelineDep, given: Annotated[Answer, Form()]) -> Response:
    """Leave a record for later."""
    said = review.skip(steps, user.name, given.record)
    return _replied(request, user, steps, _Reply(said, given.audit))


@router.post("/review/undo")
def undo(request: Request, user: Reviewer, steps: PipelineDep) -> Response:
    """Take the last answer back, and show its record again."""
    said, given = audits.undo(steps, user.name)
    if given is None:
        return _replied(request, user, steps, _Reply(said))
    items: Sequence[ReviewItem] = ()
    if _wants_json(request) and given.audit is None:
        items = items_of_records(steps, review.next_records(steps, user.name, 1, first=given.record))
    elif _wants_json(request):
        items = items_of_audit(steps, *audits.reopened(steps, given, str(given.audit)))
    return _replied(request, user, steps, _Reply(said, given.audit, given.record, items))


def _replied(request: Request, user: User, steps: Pipeline, reply: _Reply) -> Response:
    """As JSON for the script, else the page again, which says it."""
    if not _wants_json(request):
        path = "/review" if reply.audit is None else "/review/audit"
        back = url(request, path, id=reply.audit, record=reply.record, said=reply.said)
        return RedirectResponse(back, 303)
    session = review.session(steps, user.name)
    return JSONResponse(
        {
            "said": reply.said,
            "message": reply.said.words,
            "as_wished": reply.said.as_wished,
            "answered": session.answered,
            "an_hour": session.an_hour,
            "items": [_piece(request, item) for item in reply.items],
            "audit": reply.audit,
            "result": _result(request, steps, reply.audit),
        }
    )


def _result(request: Request, steps: Pipeline, audit_id: str | None) -> str | None:
    """The piece of an audit's page that its answers change."""
    audit = steps.adapters.audits.get(audit_id) if audit_id is not None else None
    if audit is None:
        return None
    return fragment(request, "audit_result.html.jinja", audit=audit)


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _piece(request: Request, item: ReviewItem) -> dict[str, object]:
    return {
        "record": item.record,
        "seen": item.seen,
        "audit": item.audit,
        "position": item.position,
        "labels": [button.name for button in item.buttons],
        "predicted": item.prediction.label if item.prediction else None,
        "html": fragment(request, "review_item.html.jinja", item=item, bars=probability_bars),
    }
