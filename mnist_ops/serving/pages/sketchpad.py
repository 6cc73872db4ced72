"""A digit drawn by hand, classified while it is drawn."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mnist_ops.serving.access import Viewer
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.queries.label_table import champion_labels
from mnist_ops.serving.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/sketchpad")
def sketchpad(request: Request, user: Viewer, steps: PipelineDep) -> HTMLResponse:
    """The canvas, and a bar for each label of the champion; the script asks /predict."""
    return page(request, "sketchpad.html.jinja", user=user, labels=champion_labels(steps))
