"""The OpenAPI document of the REST API, and a page of it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from mnist_ops import __version__
from mnist_ops.serving.rest import health
from mnist_ops.serving.rest.answers import to_json
from mnist_ops.serving.rest.schemas import FilePrediction, FileProblem, Prediction, Problem
from mnist_ops.serving.templating import page, url

router = APIRouter(include_in_schema=False)

_SCHEMAS = "#/components/schemas/"
_BINARY = {"type": "string", "format": "binary"}
_PICTURE = {
    "name": "picture",
    "in": "query",
    "description": "Add what the network saw, as a PNG.",
    "schema": {"type": "boolean", "default": False},
}
_PROBLEMS = {
    400: "The body is empty, or no multipart body.",
    408: "The body took too long.",
    413: "The body, a file or the number of files is over the limit.",
    415: "The body is of another type.",
    422: "The image cannot be classified; `reason` says why.",
    503: "There is no model yet, or the server is busy; `Retry-After` says when to try again.",
}


@router.get("/openapi.json")
def openapi_json(request: Request) -> Response:
    """The document, for programs that make clients of it."""
    return Response(to_json(document(url(request, "/"))), media_type="application/json")


@router.get("/api")
def api_page(request: Request) -> Response:
    """The same for people."""
    described = document(url(request, "/"))
    operations = [
        (method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = described["components"]["schemas"]
    base = f"{request.url.scheme}://{request.url.netloc}{url(request, '/')}".rstrip("/")
    return page(request, "api.html.jinja", operations=operations, schemas=schemas, base=base)


def document(server: str) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        server: the address that its paths are relative to.
    """
    return {**_document(), "servers": [{"url": server.rstrip("/") or "/"}]}


@cache
def _document() -> Mapping[str, Any]:
    described = get_openapi(
        title="MNIST Ops",
        version=__version__,
        summary="Predictions of the champion, with the numbers of the batch pipeline.",
        routes=health.router.routes,
    )
    shapes = [(shape, "serialization") for shape in (Prediction, Problem, FilePrediction, FileProblem)]
    _, of_shapes = models_json_schema(shapes, ref_template=f"{_SCHEMAS}{{model}}")  # type: ignore[arg-type]
    described["paths"] = {**_PREDICTION_PATHS, **described["paths"]}
    described["components"]["schemas"] |= of_shapes["$defs"]
    return described


def _operation(
    name: str, summary: str, description: str, content: Mapping[str, Any], answer: Mapping[str, Any]
) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
    refused = {
        str(status): {"description": text, "content": problem}
        for status, text in _PROBLEMS.items()
        if not (status == 422 and name == "batch_predict")
    }
    answered = {"description": "Predicted.", "content": {"application/json": {"schema": answer}}}
    return {
        "tags": ["predictions"],
        "operationId": name,
        "summary": summary,
        "description": description,
        "parameters": [_PICTURE],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answered, **refused},
    }


def _multipart(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {name: schema}, "required": [name]}
        }
    }


_PREDICTION_PATHS = {
    "/predict": {
        "post": _operation(
            "predict",
            "Predict the label of one image",
            "The image is the body, or the one file of a multipart body: PNG, JPEG, GIF, BMP, WebP or TIFF.",
            {
                "image/*": {"schema": _BINARY},
                "application/octet-stream": {"schema": _BINARY},
                **_multipart("file", _BINARY),
            },
            {"$ref": f"{_SCHEMAS}Prediction"},
        )
    },
    "/batch_predict": {
        "post": _operation(
            "batch_predict",
            "Predict the labels of up to 64 images",
            "A file that cannot be classified does not fail the others.",
            _multipart("files", {"type": "array", "items": _BINARY, "maxItems": 64}),
            {
                "type": "array",
                "items": {
                    "anyOf": [{"$ref": f"{_SCHEMAS}FilePrediction"}, {"$ref": f"{_SCHEMAS}FileProblem"}]
                },
            },
        )
    },
}
