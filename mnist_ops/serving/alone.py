"""The application without Airflow: everybody on this machine may read, and a token allows everything else."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import APIRouter, FastAPI, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.access import Role, User, Viewer
from mnist_ops.serving.app import create_app
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.rest.plain_predict import PlainPredict
from mnist_ops.serving.templating import page, url
from mnist_ops.settings import variable_of

COOKIE = "mnist_ops_session"
SESSION = timedelta(hours=12)  # then people sign in again
PROGRAM = User("program with the token", Role.ADMIN)
READER = User("anonymous", Role.VIEWER)
_OWN_NAMES = ("localhost", "127.0.0.1")
_VARIABLE = variable_of("serve_token")


@dataclass(frozen=True)
class OnePipeline:
    """A deployment whose pipeline is made once."""

    steps: Pipeline

    def pipeline(self) -> Pipeline:
        """The pipeline."""
        return self.steps


@dataclass(frozen=True)
class TokenAccess:
    """Everybody may read. Who has the token may do everything: programs send it, people sign in with it.

    The cookie of somebody who signed in holds a name, the end of the session, and a signature of both made
    with the token, not the token.

    Attributes:
        token: the secret; with None, nobody may write.
        now: tells the time.
    """

    token: str | None
    now: Callable[[], datetime]

    async def user(self, request: Request) -> User | None:
        """Who asks; None where a program sends a wrong token."""
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return PROGRAM if self.accepts(credentials.strip()) else None
        return self._signed_in(request.cookies.get(COOKIE, "")) or READER

    def _signed_in(self, cookie: str) -> User | None:
        session, _, signature = cookie.rpartition(".")
        if not self.token or not _equal(signature, _signature(self.token, session)):
            return None
        name, _, end = session.rpartition(".")
        return User(unquote(name), Role.ADMIN) if self.now().timestamp() < int(end) else None

    def sign_in_url(self, request: Request) -> str | None:
        """The form; None where there is no token to sign in with."""
        if self.token is None:
            return None
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return url(request, "/sign-in", then=here if request.method == "GET" else None)

    def advice(self, needed: Role) -> str:  # noqa: ARG002 (there is one token for all roles)
        """How to get the token's rights."""
        if self.token is None:
            return (
                f"This server has no token, so nothing can be written. Set {_VARIABLE} to a secret of 16 "
                "characters or more, start `mnist-ops serve` again, and sign in with it."
            )
        return "Sign in with the token of this server, or send it as `Authorization: Bearer TOKEN`."

    def accepts(self, token: str) -> bool:
        """Whether a token is the server's."""
        return self.token is not None and _equal(token, self.token)

    def cookie_of(self, name: str) -> str:
        """The cookie of somebody who gave the token."""
        end = self.now() + SESSION
        session = f"{quote(name, safe='')}.{int(end.timestamp())}"
        return f"{session}.{_signature(self.token or '', session)}"


def alone_app(pipeline: Pipeline) -> FastAPI:
    """The application over one pipeline, with the token and the host names of its settings.

    A request for another host name is refused: a page of another site could make its own name lead here (DNS
    rebinding), and would then count as one of ours.
    """
    settings = pipeline.settings
    token = settings.serve_token.get_secret_value() if settings.serve_token else None
    access = TokenAccess(token, pipeline.now)
    app = create_app(OnePipeline(pipeline), access, airflow=False)
    app.include_router(_sign_in_router(access))
    hosts = [*_OWN_NAMES, *sorted(settings.serve_hosts)]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_middleware(PlainPredict, service=app.state.predictions, hosts=hosts)
    return app


def _sign_in_router(access: TokenAccess) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/sign-in")
    def form(request: Request, user: Viewer, then: str = "") -> HTMLResponse:
        return page(request, "sign_in.html.jinja", user=user, then=then, has_token=access.token is not None)

    @router.post("/sign-in")
    def sign_in(
        request: Request,
        name: Annotated[str, Form(min_length=1, max_length=100)],
        token: Annotated[str, Form(max_length=1000)],
        then: Annotated[str, Form(max_length=4000)] = "",
    ) -> Response:
        if not access.accepts(token):
            raise Problem(403, "The token is wrong", f"It is {_VARIABLE} where this server runs.")
        response = RedirectResponse(then if _is_ours(then) else url(request, "/"), 303)
        cookie = access.cookie_of(name.strip() or "unnamed")
        secure = request.url.scheme == "https"
        seconds = int(SESSION.total_seconds())
        response.set_cookie(COOKIE, cookie, max_age=seconds, httponly=True, samesite="strict", secure=secure)
        return response

    @router.post("/sign-out")
    def sign_out(request: Request) -> Response:
        response = RedirectResponse(url(request, "/"), 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


def _is_ours(then: str) -> bool:
    """Whether an address is a path of this server; after two slashes, or a backslash, comes another's."""
    return then.startswith("/") and then[1:2] not in ("/", "\\")


def _signature(token: str, session: str) -> str:
    return hmac.new(token.encode(), f"session until: {session}".encode(), hashlib.sha256).hexdigest()


def _equal(one: str, other: str) -> bool:
    """Compare secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())
