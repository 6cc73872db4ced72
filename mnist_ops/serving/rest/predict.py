"""`POST /predict` and `POST /batch_predict`."""

from collections.abc import Iterable
from time import perf_counter

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.reasons import Reason
from mnist_ops.serving.access import Role, require
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.rest.answers import answer_of, details_of, problem_of_image, to_json
from mnist_ops.serving.rest.batching import Overloaded
from mnist_ops.serving.rest.bodies import Share, read_files, read_image
from mnist_ops.serving.rest.champions import NoChampion
from mnist_ops.serving.rest.multipart import UploadedFile
from mnist_ops.serving.rest.service import Prediction, PredictionService

PREDICT = "/predict"
# In a request's scope: the error that answering it has led to already.
FAILURE = "mnist_ops.failure"
_BUSY = {"Retry-After": "1"}


class PredictionRoute:
    """An ASGI endpoint that reads images and answers with predictions.

    FastAPI's own routes read a whole body before the endpoint is called, without a limit, and take longer
    than the network does. So the role is checked here.
    """

    name = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Problem: it cannot be answered.
        """
        started = perf_counter()
        request = Request(scope, receive)
        await require(request, Role.VIEWER)
        service: PredictionService = request.app.state.predictions
        try:
            _raise_failure(scope)
            with service.budget.share() as share:
                content = await self.answer(request, service, share)
        except Exception as error:
            service.metrics.failed(self.name, error)
            raise _problem_of(error) from error
        service.metrics.answered(self.name, perf_counter() - started)
        await send_json(send, content)

    async def answer(self, request: Request, service: PredictionService, share: Share) -> bytes:
        """The body of the answer, as JSON.

        Raises:
            Problem, Overloaded, NoChampion, ClientDisconnect: there is none.
        """
        raise NotImplementedError


async def send_json(send: Send, content: bytes, more_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send an answer with status 200."""
    length = b"%d" % len(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", length), *more_headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Predict(PredictionRoute):
    """The prediction for one image."""

    name = PREDICT

    async def answer(self, request: Request, service: PredictionService, share: Share) -> bytes:
        """An object."""
        payload = await read_image(request, share, await service.max_image_bytes())
        (prediction,) = await service.batcher.classify([payload])
        return answer_of(prediction, payload, picture=_picture(request)).encode()


class BatchPredict(PredictionRoute):
    """The predictions for up to 64 images."""

    name = "/batch_predict"

    async def answer(self, request: Request, service: PredictionService, share: Share) -> bytes:
        """An array with an object for each file, in order: its answer, or its problem."""
        limit, picture = await service.max_image_bytes(), _picture(request)
        files = await read_files(request, share, limit)
        payloads = [file.content for file in files if file.size <= limit]
        predictions = iter(await service.batcher.classify(payloads) if payloads else ())
        entries = [
            _entry(file, next(predictions), picture=picture)
            if file.size <= limit
            else _problem_entry(file, problem_of_image(_too_large(file, limit)))
            for file in files
        ]
        return f"[{','.join(entries)}]".encode()


def _raise_failure(scope: Scope) -> None:
    """Raise the error that this request has led to already, if there is one."""
    if FAILURE in scope:
        raise scope[FAILURE]


def _problem_of(error: Exception) -> Exception:
    if isinstance(error, ClientDisconnect):
        return Problem(499, "The client has left", "Nobody reads this.")
    if isinstance(error, NoChampion):
        return Problem(503, "There is no model to predict with", f"{error}.", headers=_BUSY)
    if isinstance(error, Overloaded):
        detail = f"{error}. Send it again in a second."
        return Problem(503, "The server is busy", detail, headers=_BUSY)
    return error


def _entry(file: UploadedFile, prediction: Prediction, *, picture: bool) -> str:
    try:
        answer = answer_of(prediction, file.content, picture=picture)
    except Problem as problem:
        return _problem_entry(file, problem)
    return f'{{"file":{to_json(file.name)},{answer[1:]}'


def _problem_entry(file: UploadedFile, problem: Problem) -> str:
    return to_json({"file": file.name, "problem": details_of(problem)})


def _too_large(file: UploadedFile, limit: int) -> ItemRejected:
    return ItemRejected(Reason.TOO_LARGE, f"{file.size:,} bytes; the limit is {limit:,}")


def _picture(request: Request) -> bool:
    query = request.scope["query_string"]
    return bool(query) and request.query_params.get("picture", "").lower() in ("true", "1")
