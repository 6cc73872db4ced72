"""Servers on 127.0.0.1 that are not what a connection expects: silent, closing, web servers, refusing."""

import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import bson

_XML = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
_HELLO = {"ok": 1, "ismaster": True, "helloOk": True, "minWireVersion": 0, "maxWireVersion": 25}
_WRONG_PASSWORD = {
    "ok": 0,
    "code": 18,
    "codeName": "AuthenticationFailed",
    "errmsg": "Authentication failed.",
}
_OP_QUERY = 2004

Handle = Callable[[socketserver.BaseRequestHandler], None]


@contextmanager
def hostile_servers() -> Iterator[dict[str, int]]:
    """Start one of each; yields their ports by name. On the port `dead` nothing listens."""
    kinds = {
        "silent": _stay_silent,
        "closing": lambda _: None,
        "web": _answering_http(200, "text/html", "<html><p>It works!</html>"),
        "redirecting": _answering_http(301, "text/html", "<html>moved</html>"),
        "no-bucket": _answering_http(404, "application/xml", _XML.format(code="NoSuchBucket")),
        "wrong-key": _answering_http(403, "application/xml", _XML.format(code="InvalidAccessKeyId")),
        "wrong-secret": _answering_http(403, "application/xml", _XML.format(code="SignatureDoesNotMatch")),
        "expired": _answering_http(400, "application/xml", _XML.format(code="ExpiredToken")),
        "wrong-password": _refuse_passwords,
    }
    with ExitStack() as stack:
        ports = {name: stack.enter_context(_server(handle)) for name, handle in kinds.items()}
        with _server(_stay_silent) as closed:
            dead = closed
        yield ports | {"dead": dead}


@contextmanager
def _server(handle: Handle) -> Iterator[int]:
    handler = type("Handler", (socketserver.BaseRequestHandler,), {"handle": handle})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def _stay_silent(connection: socketserver.BaseRequestHandler) -> None:
    while connection.request.recv(65_536):
        pass


def _answering_http(status: int, content_type: str, body: str) -> Handle:
    answer = (
        f"HTTP/1.1 {status} Answer\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    )

    def handle(connection: socketserver.BaseRequestHandler) -> None:
        connection.request.recv(65_536)
        connection.request.sendall(answer.encode())

    return handle


def _refuse_passwords(connection: socketserver.BaseRequestHandler) -> None:
    """Speak enough of MongoDB's protocol to be found, and refuse every user."""
    while header := connection.request.recv(16):
        length, request, _, operation = struct.unpack("<iiii", header)
        payload = connection.request.recv(length - 16)
        greeting = b"hello" in payload or b"ismaster" in payload
        document = bson.encode(_HELLO if greeting else _WRONG_PASSWORD)
        if operation == _OP_QUERY:
            reply, body = 1, struct.pack("<iqii", 8, 0, 0, 1) + document
        else:
            reply, body = 2013, struct.pack("<ib", 0, 0) + document
        connection.request.sendall(struct.pack("<iiii", 16 + len(body), 1, request, reply) + body)
