"""The overview: what needs a person, and how the deployment does."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mnist_ops.serving.access import Viewer
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.queries.overview import overview
from mnist_ops.serving.templating import page

router = APIRouter(include_in_schema=False)


@router.get("/")
def show_overview(request: Request, user: Viewer, pipeline: PipelineDep) -> HTMLResponse:
    """The page that people come to first."""
    return page(request, "overview.html.jinja", user=user, overview=overview(pipeline))
