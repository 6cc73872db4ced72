"""The OpenAPI document and its page."""

import pytest

from mnist_ops.serving.access import Role
from mnist_ops.serving.rest.openapi import document
from mnist_ops.serving.rest.routes import router

PATHS = {"/predict", "/batch_predict", "/healthz", "/readyz", "/metrics"}


def references(value: object) -> set[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_the_document_has_every_path_of_the_rest_api() -> None:
    """And no page for people."""
    described = document("/")
    assert set(described["paths"]) == PATHS
    assert {route.path for route in router.routes} >= PATHS


def test_every_shape_that_is_referred_to_is_in_the_document() -> None:
    """Programs make clients of it."""
    described = document("/")
    shapes = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert references(described) <= shapes


@pytest.mark.parametrize("path", ["/predict", "/batch_predict"])
def test_every_problem_is_documented(path: str) -> None:
    """As problem details."""
    responses = document("/")["paths"][path]["post"]["responses"]
    assert {"400", "408", "413", "415", "503"} <= set(responses)
    assert ("422" in responses) == (path == "/predict")
    assert set(responses["413"]["content"]) == {"application/problem+json"}


def test_the_document_names_the_place_it_is_served_at(client) -> None:
    """Below Airflow's address too."""
    assert client(Role.VIEWER).get("/openapi.json").json()["servers"] == [{"url": "/"}]
    assert document("/mnist-ops/")["servers"] == [{"url": "/mnist-ops"}]


def test_the_page_shows_every_path_and_every_shape(client) -> None:
    """Rendered by the server, from the document."""
    page = client(Role.VIEWER).get("/api")
    assert page.status_code == 200
    for path in PATHS:
        assert f"{path}</code></h2>" in page.text
    for name in document("/")["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    assert "curl --data-binary @seven.png" in page.text
