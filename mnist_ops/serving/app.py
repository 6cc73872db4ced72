"""The application: every page and the REST API, inside Airflow or alone."""

from fastapi import APIRouter, Depends, FastAPI

from mnist_ops import __version__
from mnist_ops.serving import error_handlers, reports, static_files
from mnist_ops.serving.access import Access, viewer
from mnist_ops.serving.deployment import Deployment
from mnist_ops.serving.pages import backfills, models, overview, records, review, runs, sketchpad
from mnist_ops.serving.rest import routes
from mnist_ops.serving.rest.service import PredictionService
from mnist_ops.serving.security import Security

_ROUTERS: tuple[APIRouter, ...] = (
    routes.router,  # first: routes are looked at one after the other
    static_files.router,
    overview.router,
    runs.router,
    records.router,
    review.router,
    models.router,
    reports.router,
    backfills.router,
    sketchpad.router,
)


def create_app(deployment: Deployment, access: Access, *, airflow: bool) -> FastAPI:
    """The application over one deployment. Every route asks for a user who may read, at the least.

    Airflow starts no lifespan of an application that it mounts, so nothing may depend on one.

    Args:
        deployment: where the pipeline comes from.
        access: recognises users.
        airflow: whether Airflow serves the application; its pages then link to Airflow's.
    """
    app = FastAPI(
        title="MNIST Ops",
        version=__version__,
        dependencies=[Depends(viewer)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.deployment = deployment
    app.state.predictions = PredictionService(deployment)
    app.state.access = access
    app.state.airflow = airflow
    app.add_middleware(Security)
    error_handlers.add_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app
