"""The style sheet and the scripts of the pages."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_A_YEAR = 31_536_000  # seconds

router = APIRouter(include_in_schema=False)


@cache
def _files() -> dict[str, bytes]:
    """Every file by its name. A request chooses among them, and never names a path."""
    return {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _MEDIA_TYPES}


@cache
def digest_of(name: str) -> str:
    """What changes with the content of a file. Raises KeyError for an unknown one."""
    return hashlib.sha256(_files()[name]).hexdigest()[:12]


@router.get("/static/{name}")
def static_file(name: str, v: Annotated[str, Query()] = "") -> Response:
    """A file; a browser may keep it where the address holds its digest."""
    content = _files().get(name)
    if content is None:
        raise HTTPException(404, "There is no such file")
    keep = v == digest_of(name)
    headers = {"Cache-Control": f"private, max-age={_A_YEAR}, immutable"} if keep else None
    return Response(content, media_type=_MEDIA_TYPES[Path(name).suffix], headers=headers)
