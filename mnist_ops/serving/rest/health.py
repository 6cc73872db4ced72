"""Whether the process is up, whether it can predict, and what it has counted."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from mnist_ops.serving.rest.answers import to_json
from mnist_ops.serving.rest.schemas import Health, ModelIdentity, Readiness
from mnist_ops.serving.rest.service import PredictionService

_FIRST_CHECK_S = 2.0  # the longest that a request waits for the first look at the registry
_STALE_AFTER = 3  # checks that did not come
_CHECK_TIME_S = 10.0  # that one may take

router = APIRouter(tags=["operations"])


def _service(request: Request) -> PredictionService:
    service: PredictionService = request.app.state.predictions
    return service


Service = Annotated[PredictionService, Depends(_service)]


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> Health:
    """Answers as long as the process runs; it asks nobody else."""
    return Health()


@router.get(
    "/readyz",
    summary="Whether predictions can be made now",
    response_model=Readiness,
    responses={503: {"description": "They cannot.", "model": Readiness}},
)
async def readyz(service: Service) -> Response:
    """503 until a champion is loaded, and while the database does not answer."""
    readiness = await _readiness(service)
    content = to_json(readiness.model_dump())
    return Response(content, 200 if readiness.ready else 503, media_type="application/json")


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "In Prometheus's text format."}},
)
async def metrics(service: Service) -> Response:
    """Of this process alone: each worker has its own."""
    champion = service.champions.current
    text = service.metrics.text(champion.bundle if champion else None)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _readiness(service: PredictionService) -> Readiness:
    """What the thread that looks for champions knows: asking costs the database nothing."""
    champions = service.champions
    if champions.last_check is None:
        await asyncio.to_thread(champions.wait_for_first_check, _FIRST_CHECK_S)
    check, current = champions.last_check, champions.current
    if check is None:
        problem: str | None = "The database has not answered yet."
    elif time.monotonic() - check.at > _STALE_AFTER * champions.poll_s + _CHECK_TIME_S:
        problem = "The database has not answered for some time."
    else:
        problem = check.error
    database = check is not None and check.reached and problem in (None, check.error)
    model = ModelIdentity.model_validate(current.bundle.identity()) if current else None
    return Readiness(ready=current is not None and database, model=model, database=database, problem=problem)
