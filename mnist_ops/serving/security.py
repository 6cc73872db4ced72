"""What browsers are told about every answer, and which requests of other sites are refused."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_ops.serving.problems import Problem, answer

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}
ENCODED_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_FORM = 64 << 10  # bytes of a body
# They read their bodies themselves, after the user is known and within limits of their own.
_OWN_LIMITS = frozenset({"/predict", "/batch_predict"})


class Security:
    """ASGI middleware: adds the headers that an answer lacks, and refuses what another site's page sends.

    It also limits the forms: FastAPI reads them before it asks who sends them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                missing = [header for header in ENCODED_HEADERS if header[0] not in given]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        request = Request(scope)
        app = answer(request, _CROSS_SITE) if is_cross_site(request) else self._app
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        limited = receive if path in _OWN_LIMITS else _at_most(MAX_FORM, receive)
        await app(scope, limited, send_with_headers)


def _at_most(limit: int, receive: Receive) -> Receive:
    """Receive a body of a limited number of bytes.

    Raises:
        HTTPException: 413, it has more; the only kind of error that FastAPI does not make a 400.
    """
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            # The client may still be sending: the server would read all of it.
            raise HTTPException(413, f"The limit is {limit:,} bytes", {"Connection": "close"})
        return message

    return limited


def is_cross_site(request: Request) -> bool:
    """Whether a request that may change something comes from a page of another site, or may do so.

    Browsers say where a request comes from. Other programs do not, and are trusted unless they send a
    cookie: a cookie is what a page of another site could make a browser send.
    """
    if request.method in SAFE_METHODS:
        return False
    if site := request.headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    if origin := request.headers.get("origin"):
        return urlsplit(origin).netloc != request.headers.get("host")
    return "cookie" in request.headers and "authorization" not in request.headers


_CROSS_SITE = Problem(
    403,
    "A request of another site is refused",
    "Only the pages of MNIST Ops may send it. Open the page here and try again.",
)
