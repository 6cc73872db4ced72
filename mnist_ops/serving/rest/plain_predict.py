"""`POST /predict` with an image as the body, answered before the middlewares and the routes.

These take longer than the network does. They decide about a request by its headers; one that has none of
those headers is allowed, so it need not pass through them. Every other request does, and every error.
"""

from collections.abc import Collection
from time import perf_counter

from starlette.types import ASGIApp, Receive, Scope, Send

from mnist_ops.serving.rest.answers import answer_of
from mnist_ops.serving.rest.bodies import is_within, read_payload
from mnist_ops.serving.rest.predict import FAILURE, PREDICT, send_json
from mnist_ops.serving.rest.service import PredictionService
from mnist_ops.serving.security import ENCODED_HEADERS

# Who asks (`TokenAccess`), from which site (`is_cross_site`), and how the body is encoded.
_DECIDING = frozenset({b"authorization", b"cookie", b"content-encoding", b"origin", b"sec-fetch-site"})


class PlainPredict:
    """ASGI middleware, outside of all others: answers plain predictions itself.

    Args:
        app: answers everything else.
        service: predicts.
        hosts: the names by which the server may be asked. Everybody who asks for them may predict.
    """

    def __init__(self, app: ASGIApp, service: PredictionService, hosts: Collection[str]) -> None:
        self._app = app
        self._service = service
        self._hosts = frozenset(host.encode() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PREDICT or not await self._is_plain(scope):
            await self._app(scope, receive, send)
            return
        started, service = perf_counter(), self._service
        try:
            with service.budget.share() as share:
                payload = await read_payload(receive, share, await service.max_image_bytes())
                (prediction,) = await service.batcher.classify([payload])
                content = answer_of(prediction, payload).encode()
        except Exception as error:  # noqa: BLE001 (the route raises it again)
            scope[FAILURE] = error
            await self._app(scope, receive, send)
            return
        service.metrics.answered(PREDICT, perf_counter() - started)
        await send_json(send, content, ENCODED_HEADERS)

    async def _is_plain(self, scope: Scope) -> bool:
        """Whether the middlewares and the route would let a request through, and read an image from it."""
        headers, limit = dict(scope["headers"]), await self._service.max_image_bytes()
        kind = headers.get(b"content-type", b"image/")
        return (
            scope["method"] == "POST"
            and not scope["query_string"]
            and len(headers) == len(scope["headers"])  # none is there twice
            and _DECIDING.isdisjoint(headers)
            and headers.get(b"host", b"").partition(b":")[0] in self._hosts
            and (kind.startswith(b"image/") or kind == b"application/octet-stream")
            and is_within(headers.get(b"content-length", b"0").decode("latin-1"), limit)
        )
