"""The report of a released model, as a page."""

import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response

from mnist_ops.domain.errors import MnistOpsError, ObjectMissing

_log = logging.getLogger(__name__)

# The page is one file out of a bucket, shown at the address that people are signed in to: it may show its
# own pictures and styles, and nothing else. No script runs, nothing is fetched, no other page frames it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # It shows people's pictures.
    "Cache-Control": "private, no-store",
}


def report_router(read: Callable[[int], bytes | None]) -> APIRouter:
    """`GET /{version}`: the report of that version, 404 where there is none, 503 where nobody can tell.

    Who may look is decided by the app that includes it.

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
