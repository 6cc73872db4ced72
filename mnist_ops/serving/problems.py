"""What went wrong, as a page for people and as problem details (RFC 9457) for programs."""

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from mnist_ops.domain.errors import (
    ItemRejected,
    MnistOpsError,
    ObjectMissing,
    Permanent,
    Transient,
    UsageError,
)
from mnist_ops.serving.templating import page

# The first that fits. Every other error of ours says that the state of things forbids what was asked.
_STATUS_OF = {
    Transient: (503, "It cannot be answered at present"),
    UsageError: (400, "The request cannot be used"),
    ObjectMissing: (404, "It no longer exists"),
    ItemRejected: (422, "The image cannot be classified"),
}


class Problem(Permanent):
    """Ends a request with an error.

    Args:
        status: the HTTP status, 400 to 599.
        title: what kind of problem it is, without a full stop.
        detail: what exactly, and what to do, as sentences.
        headers: of the answer.
        more: further members of the problem details.
    """

    def __init__(
        self, status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers
        self.more = more


def answer(request: Request, problem: Problem) -> Response:
    """A problem as the client wants it: a page for browsers, else JSON."""
    if "text/html" in request.headers.get("accept", ""):
        response: Response = page(request, "problem.html.jinja", status=problem.status, problem=problem)
        response.headers.update(problem.headers or {})
        return response
    details = {"title": problem.title, "status": problem.status, "detail": problem.detail}
    return JSONResponse(
        {name: value for name, value in {**problem.more, **details}.items() if value is not None},
        problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def problem_of(error: MnistOpsError, *, reading: bool) -> Problem:
    """An error of the pipeline as a problem.

    Args:
        error: what a step or a port raised.
        reading: whether the request changes nothing; what is refused is then a fault of the deployment,
            such as a wrong password, and not a conflict with what was asked.
    """
    for kind, (status, title) in _STATUS_OF.items():
        if isinstance(error, kind):
            return Problem(status, title, str(error))
    if reading:
        return Problem(503, _STATUS_OF[Transient][1], str(error))
    return Problem(409, "It is not possible", str(error))
