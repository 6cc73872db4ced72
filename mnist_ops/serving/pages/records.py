"""One record: its images, prediction, history, failure and where they came from."""

import logging
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from mnist_ops.serving.access import Reviewer, Viewer
from mnist_ops.serving.charts import probability_bars
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.queries.records import find_records, head_of, record_view
from mnist_ops.serving.templating import page, url

router = APIRouter(include_in_schema=False)

_log = logging.getLogger(__name__)
_LONGEST = 10_000  # characters of an id or a URL


@router.get("/record")
def show_record(
    request: Request,
    user: Viewer,
    pipeline: PipelineDep,
    record_id: Annotated[str, Query(alias="id", max_length=_LONGEST)] = "",
    image_url: Annotated[str, Query(alias="url", max_length=_LONGEST)] = "",
    done: str = "",
) -> HTMLResponse:
    """A record by its id or its image URL; a list if several have it."""
    text = (record_id or image_url).strip()
    if not text:
        raise Problem(400, "No record is named", "Give the id or the image URL of a record.")
    found = find_records(pipeline, text)
    if not found:
        settings = pipeline.settings
        detail = (
            f"{settings.mongo_database}.{settings.mongo_collection} has no record with the id or image URL "
            f"{text[:200]}. An id of another type is found as canonical Extended JSON."
        )
        raise Problem(404, "There is no such record", detail)
    if len(found) > 1:
        views = [(one.id_json, record_view(pipeline, one, pictured=False)) for one in found]
        return page(request, "records.html.jinja", user=user, text=text, records=views)
    view = record_view(pipeline, found[0])
    return page(request, "record.html.jinja", user=user, record=view, bars=probability_bars, done=done)


@router.post("/record/try-again")
def try_again(
    request: Request,
    user: Reviewer,
    pipeline: PipelineDep,
    record_id: Annotated[str, Form(alias="id", max_length=_LONGEST)],
    run: Annotated[str, Form(max_length=2_000)],
) -> RedirectResponse:
    """Remove the failure that a run wrote into a record, so that the next run takes the record."""
    head = head_of(pipeline, record_id)
    if head is None:
        raise Problem(404, "There is no such record", "It was deleted, or its id is another.")
    cleared = head.failure.run == run and pipeline.adapters.record_index.clear_failure(head)
    if cleared:
        _log.info("%s asks for record %s again, which failed in %s", user.name, record_id, run)
    done = "cleared" if cleared else "changed"
    return RedirectResponse(url(request, "/record", id=record_id, done=done), 303)
