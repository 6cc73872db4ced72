"""A plain `POST /predict` is answered before the middlewares and routes, which decide about every other."""

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from mnist_ops.serving.alone import alone_app
from mnist_ops.serving.rest.plain_predict import PlainPredict
from tests.support.pipeline_in_memory import Pipeline, png_of

PNG = {"Content-Type": "image/png"}
LIMIT = 100_000


@pytest.fixture
def api(pipeline: Pipeline) -> TestClient:
    """The application without Airflow, with a champion; images may have 100,000 bytes."""
    app = alone_app(pipeline.steps(fetch_max_bytes=LIMIT))
    return TestClient(app, base_url="http://localhost:8090", raise_server_exceptions=False)


def test_it_gives_the_answer_that_the_route_gives(api) -> None:
    """To the byte, with the same headers. A query makes a request take the route."""
    plain = api.post("/predict", content=png_of(0), headers=PNG)
    routed = api.post("/predict?picture=false", content=png_of(0), headers=PNG)
    assert plain.status_code == 200
    assert (plain.content, plain.headers) == (routed.content, routed.headers)


def test_no_middleware_is_asked(api) -> None:
    """They take longer than the network does."""

    async def nothing_else(scope: Scope, *_: Receive | Send) -> None:
        raise AssertionError(scope["path"])

    app = PlainPredict(nothing_else, api.app.state.predictions, ["localhost"])
    answer = TestClient(app, base_url="http://localhost:8090").post("/predict", content=png_of(0))
    assert answer.json()["label"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Cookie": "a=b"}, 403),
        ({"Origin": "https://other.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "other.example"}, 400),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Length": str(LIMIT + 1)}, 413),
    ],
)
def test_a_request_that_a_header_forbids_is_refused(api, headers: dict[str, str], status: int) -> None:
    """As on every other path."""
    assert api.post("/predict", content=png_of(0), headers={**PNG, **headers}).status_code == status


def test_what_cannot_be_predicted_is_answered_by_the_route(api) -> None:
    """With the problem's details and the headers of every answer; it is counted once."""
    answer = api.post("/predict", content=b"text", headers=PNG)
    assert (answer.status_code, answer.json()["reason"]) == (422, "not_an_image")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert 'mnist_ops_requests_total{outcome="refused",route="/predict"} 1.0' in api.get("/metrics").text


def test_a_fault_is_raised_to_the_server(api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which logs it; the answer is 500."""
    monkeypatch.delattr(api.app.state.predictions.batcher, "_jobs")
    assert api.post("/predict", content=png_of(0), headers=PNG).status_code == 500
