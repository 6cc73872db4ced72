"""`POST /predict` and `POST /batch_predict`."""

import asyncio
import base64
import gzip
import io
import json
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.types import Message

from mnist_ops.domain.keys import sha256_hex
from mnist_ops.serving.access import Role
from mnist_ops.serving.rest import bodies
from mnist_ops.serving.rest.schemas import FilePrediction, FileProblem, Prediction, Problem
from mnist_ops.vision.preprocessing.decode import decode
from tests.support.pipeline_in_memory import MODEL, Pipeline, label_of, png_of

PNG = {"Content-Type": "image/png"}
LIMIT = 100_000


@pytest.fixture
def api(client, pipeline: Pipeline) -> TestClient:
    """The application with a champion, as a viewer uses it; images may have 100,000 bytes."""
    return client(Role.VIEWER, pipeline.steps(fetch_max_bytes=LIMIT))


def problem_of(answer) -> Problem:
    """The problem details of an answer, which are in their media type and name its status."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(answer.json())
    assert problem.status == answer.status_code
    return problem


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    """The parts of a multipart body with these files."""
    return [("files", (f"{number}.png", content)) for number, content in enumerate(contents)]


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/JPEG; q=1", "application/octet-stream", None])
def test_an_image_as_the_body_gets_its_prediction(api, pipeline: Pipeline, kind: str | None) -> None:
    """The content type may be any of images or none; the bytes decide."""
    payload = png_of(0)
    answer = api.post("/predict", content=payload, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 200, answer.text
    prediction = Prediction.model_validate(answer.json())
    champion = pipeline.models.champion(MODEL)
    assert champion is not None
    assert prediction.label == label_of(0)
    assert prediction.confidence == max(prediction.probabilities.values())
    assert list(prediction.probabilities)[prediction.index] == prediction.label
    assert prediction.model.model_dump() == champion.identity()
    assert prediction.image.sha256 == sha256_hex(payload)
    assert "picture" not in answer.json()


def test_the_one_file_of_a_multipart_body_gets_the_same_answer(api) -> None:
    """As forms and `requests` send it."""
    raw = api.post("/predict", content=png_of(1), headers=PNG).json()
    form = api.post("/predict", files={"file": ("one.png", png_of(1))}, data={"comment": "mine"})
    assert form.json() == raw


def test_the_picture_is_what_the_network_saw(api) -> None:
    """Dark ink on white, from a drawing of another size."""
    drawing = io.BytesIO()
    Image.open(io.BytesIO(png_of(0))).resize((90, 90)).save(drawing, "PNG")
    answer = api.post("/predict?picture=true", content=drawing.getvalue(), headers=PNG).json()
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["picture"]))))
    np.testing.assert_array_equal(255 - picture, decode(drawing.getvalue()))


def test_a_low_confidence_is_marked_for_review(client, pipeline: Pipeline) -> None:
    """By the setting of the batch pipeline."""
    api = client(Role.VIEWER, pipeline.steps(review_below=1.0))
    answer = api.post("/predict", content=png_of(0), headers=PNG).json()
    assert (answer["needs_review"], answer["review_reason"]) == (True, "low_confidence")


@pytest.mark.parametrize(
    ("content", "headers", "status", "said"),
    [
        (b"", PNG, 400, "as the body"),
        (png_of(0), {"Content-Type": "text/plain"}, 415, "text/plain"),
        (png_of(0), {"Content-Type": "application/x-www-form-urlencoded"}, 415, "Send image/*"),
        (gzip.compress(png_of(0)), {**PNG, "Content-Encoding": "gzip"}, 415, "without a Content-Encoding"),
        (b"<html>no image</html>", PNG, 422, "image"),
        (png_of(0)[:60], PNG, 422, "truncated"),
        (bytes(LIMIT + 1), PNG, 413, "100,000 bytes"),
        (b"text", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
        (b"text", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "boundary"),
        (b"text", {"Content-Type": f"multipart/form-data; boundary={'x' * 1000}"}, 400, "Boundary"),
        (b"--x\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\nabc",
         {"Content-Type": "multipart/form-data; boundary=x"}, 400, "before its last boundary"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nabc\r\n--x--\r\n',
         {"Content-Type": "multipart/form-data; boundary=x"}, 400, "no part with a file name"),
    ],
    ids=["empty", "text", "form", "gzip", "page", "truncated", "large", "no boundary", "no part",
         "long boundary", "no end", "no file"],
)  # fmt: skip
def test_what_cannot_be_predicted_is_refused_with_its_reason(
    api, content: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    """As problem details, and the next request is answered."""
    answer = api.post("/predict", content=content, headers=headers)
    assert answer.status_code == status
    assert said in problem_of(answer).detail
    assert api.post("/predict", content=png_of(0), headers=PNG).status_code == 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"GIF", "not_an_image"), (png_of(0)[:60], "unreadable_image"), (bytes(LIMIT + 1), "too_large")],
    ids=["no image", "truncated", "large"],
)
def test_a_refused_image_has_the_reason_that_its_record_would_have(api, content: bytes, reason: str) -> None:
    """From the closed list."""
    assert problem_of(api.post("/predict", content=content, headers=PNG)).reason == reason


def chunks(total: int) -> Iterator[bytes]:
    """Zeros in pieces of 10,000 bytes, sent without a length."""
    for _ in range(total // 10_000):
        yield bytes(10_000)


def test_the_limit_holds_without_a_declared_length(api) -> None:
    """A chunked body is cut off where it exceeds the limit, and the connection is closed."""
    answer = api.post("/predict", content=chunks(10 * LIMIT), headers=PNG)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


def test_a_file_over_the_limit_is_refused(api) -> None:
    """Also where the whole body is under that of multipart bodies."""
    answer = api.post("/predict", files=files(bytes(LIMIT + 1)))
    assert (answer.status_code, problem_of(answer).reason) == (413, "too_large")


def test_two_files_are_too_many_for_predict(api) -> None:
    """Rather than one of them unanswered."""
    answer = api.post("/predict", files=files(png_of(0), png_of(1)))
    assert (answer.status_code, problem_of(answer).title) == (413, "There are too many files")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_refused(api, method: str) -> None:
    """The answer names the one that is allowed."""
    answer = api.request(method, "/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_batch_gets_an_answer_or_a_problem_for_each_file(api) -> None:
    """In order; a bad file does not fail the others."""
    contents = (png_of(0), b"text", png_of(1), b"", bytes(LIMIT + 1), png_of(2))
    answer = api.post("/batch_predict", files=files(*contents))
    assert answer.status_code == 200
    entries = answer.json()
    assert [entry["file"] for entry in entries] == [f"{number}.png" for number in range(6)]
    for number in (0, 2, 5):
        alone = api.post("/predict", content=contents[number], headers=PNG).json()
        assert FilePrediction.model_validate(entries[number]).model_dump(exclude={"file", "picture"}) == alone
    problems = [FileProblem.model_validate(entries[number]).problem for number in (1, 3, 4)]
    assert [(problem.status, problem.reason) for problem in problems] == [
        (422, "not_an_image"), (422, "not_an_image"), (413, "too_large"),
    ]  # fmt: skip


def test_a_batch_of_64_files_is_answered_and_one_of_65_is_not(api) -> None:
    """The problem says how many are allowed."""
    payloads = [png_of(number) for number in range(65)]
    assert len(api.post("/batch_predict", files=files(*payloads[:64])).json()) == 64
    answer = api.post("/batch_predict", files=files(*payloads))
    assert answer.status_code == 413
    assert "At most 64" in problem_of(answer).detail


def test_a_batch_is_limited_as_a_whole(api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where every file is under the limit."""
    monkeypatch.setattr(bodies, "MAX_BODY", 3 * LIMIT)
    assert api.post("/batch_predict", files=files(*[bytes(LIMIT)] * 4)).status_code == 413


def test_a_batch_of_a_single_image_as_the_body_is_refused(api) -> None:
    """It says what to send instead."""
    answer = api.post("/batch_predict", content=png_of(0), headers=PNG)
    assert answer.status_code == 415
    assert "part named files" in problem_of(answer).detail


def test_a_multipart_body_of_many_fields_is_refused(api) -> None:
    """However small they are."""
    answer = api.post(
        "/batch_predict", data={f"field{number}": "1" for number in range(200)}, files=files(b"")
    )
    assert (answer.status_code, problem_of(answer).title) == (413, "There are too many fields")


def test_without_a_champion_the_answer_says_what_to_do(client) -> None:
    """And when to come again."""
    answer = client(Role.VIEWER, Pipeline(load=lambda *_: None).steps()).post(
        "/predict", content=png_of(0), headers=PNG
    )
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "run train_lenet" in problem_of(answer).detail


def test_memory_for_images_is_limited_over_all_requests(api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over it is asked to come again; what a request took is given back."""
    budget = bodies.Budget(max_bytes=5_000)
    monkeypatch.setattr(api.app.state.predictions, "budget", budget)
    answer = api.post("/predict", content=bytes(5_001), headers=PNG)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    for _ in range(50):
        assert api.post("/predict", content=png_of(0), headers=PNG).status_code == 200
    budget.take(5_000)


def sent(api: TestClient, *messages: dict[str, object]) -> list[Message]:
    """What the application sends when the server gives it these messages, and then no more."""
    waiting, answers = deque(messages), list[Message]()

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.popleft()

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
    asyncio.run(api.app(scope, receive, send))
    return answers


FIRST_HALF = {"type": "http.request", "body": png_of(0)[:100], "more_body": True}


def test_a_body_that_does_not_end_is_given_up(api, monkeypatch: pytest.MonkeyPatch) -> None:
    """After half a minute; here sooner. The connection is closed."""
    monkeypatch.setattr(bodies, "MAX_READING_S", 0.05)
    start, body = sent(api, FIRST_HALF)
    assert (start["status"], dict(start["headers"])[b"connection"]) == (408, b"close")
    assert "took longer" in json.loads(body["body"])["detail"]


def test_a_client_that_leaves_is_no_fault(api) -> None:
    """Nothing is logged as an error, and the request is counted as gone."""
    sent(api, FIRST_HALF, {"type": "http.disconnect"})
    counted = api.get("/metrics").text
    assert 'mnist_ops_requests_total{outcome="gone",route="/predict"} 1.0' in counted
