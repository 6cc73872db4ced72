"""The report of a released model, as it is in its bundle."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse

from mnist_ops.domain.errors import ObjectMissing
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.serving.access import Viewer
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.queries.released_models import find_version
from mnist_ops.serving.templating import url

PAGE = "report/index.html"  # in a bundle

# The page is a file from a bucket, shown on the site where people are signed in. It may use its own images
# and styles only: no script runs, nothing is fetched, and no page of another site can frame it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
    ),
    "Referrer-Policy": "no-referrer",
}

router = APIRouter(include_in_schema=False)


@router.get("/reports")
@router.get("/reports/")
def reports(request: Request, user: Viewer) -> Response:  # noqa: ARG001 (asks for the role)
    """The versions are on the page of the models."""
    return RedirectResponse(url(request, "/models"), 303)


@router.get("/reports/{version}")
def report(
    version: Annotated[int, Path(ge=1, lt=2**31)],
    pipeline: PipelineDep,
    user: Viewer,  # noqa: ARG001 (asks for the role)
) -> Response:
    """The report of a version; 404 where there is none."""
    model = find_version(pipeline, version)
    page = _stored(pipeline.adapters.objects, model.bundle) if model else None
    if page is None:
        raise Problem(404, "Not Found", f"There is no report of version {version}.")
    return Response(page, media_type="text/html; charset=utf-8", headers=HEADERS)


def _stored(objects: ObjectStore, bundle: BundleRef) -> bytes | None:
    try:
        return objects.get_bytes(f"{bundle.uri}/{PAGE}")
    except ObjectMissing:
        return None
