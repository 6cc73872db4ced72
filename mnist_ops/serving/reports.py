"""The report of a released model, as a page."""

import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response

from mnist_ops.domain.errors import MnistOpsError, ObjectMissing

_log = logging.getLogger(__name__)

# The page is a file from a bucket, shown on the site where people are signed in. It may use its own images
# and styles only: no script runs, nothing is fetched, and no other page can frame it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The report shows images of the records.
    "Cache-Control": "private, no-store",
}


def report_router(read: Callable[[int], bytes | None]) -> APIRouter:
    """`GET /{version}`: the report of that version, 404 where there is none, 503 where it cannot be read.

    The app that includes the router decides who may read reports.

    Args:
        read: the report of a version, as HTML in UTF-8; None where there is no such version or it has no
            report.
    """
    router = APIRouter()

    @router.get("/{version}")
    def report(version: Annotated[int, Path(ge=1, lt=2**31)]) -> Response:
        try:
            page = read(version)
        except ObjectMissing:
            page = None
        except MnistOpsError as error:
            _log.warning("the report of version %d cannot be read: %s", version, error)
            raise HTTPException(503, "the report cannot be read at present") from error
        if page is None:
            raise HTTPException(404, f"there is no report of version {version}")
        return Response(page, media_type="text/html; charset=utf-8", headers=HEADERS)

    return router
