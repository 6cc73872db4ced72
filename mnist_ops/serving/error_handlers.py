"""Every error of a route becomes an answer."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from mnist_ops.domain.errors import MnistOpsError
from mnist_ops.serving.access import Role, require
from mnist_ops.serving.problems import Problem, answer, problem_of
from mnist_ops.serving.security import HEADERS, SAFE_METHODS

_log = logging.getLogger(__name__)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the application's routes with a problem."""

    @app.exception_handler(Problem)
    def of_problem(request: Request, problem: Problem) -> Response:
        return answer(request, problem)

    @app.exception_handler(MnistOpsError)
    def of_pipeline(request: Request, error: MnistOpsError) -> Response:
        problem = problem_of(error, reading=request.method in SAFE_METHODS)
        if problem.status >= 500:
            _log.warning("%s %s: %s", request.method, request.url.path, error)
        return answer(request, problem)

    @app.exception_handler(RequestValidationError)
    def of_validation(request: Request, error: RequestValidationError) -> Response:
        wrong = [f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}." for item in error.errors()]
        return answer(request, Problem(422, "The request cannot be used", " ".join(wrong)))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        return answer(request, await _problem_of_http(request, error))

    @app.exception_handler(Exception)
    def of_fault(request: Request, error: Exception) -> Response:
        # Starlette raises the error again, and the server logs it with its traceback. This answer is given
        # outside of every middleware.
        detail = f"{type(error).__name__}: the server's log says more."
        headers = dict(HEADERS)
        return answer(request, Problem(500, "This is a fault of MNIST Ops", detail, headers=headers))


async def _problem_of_http(request: Request, error: HTTPException) -> Problem:
    """An error of the framework, such as an unknown path, which only a known user is told about."""
    try:
        await require(request, Role.VIEWER)
    except Problem as problem:
        return problem
    title = HTTPStatus(error.status_code).phrase
    return Problem(error.status_code, title, f"{error.detail}.", headers=dict(error.headers or {}))
