"""The routes of the REST API."""

from fastapi import APIRouter
from starlette.routing import Route

from mnist_ops.serving.rest import health, openapi
from mnist_ops.serving.rest.predict import BatchPredict, Predict

router = APIRouter()
router.routes += [
    Route("/predict", Predict(), methods=["POST"]),
    Route("/batch_predict", BatchPredict(), methods=["POST"]),
]
router.include_router(health.router)
router.include_router(openapi.router)
