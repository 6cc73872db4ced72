"""Requests that a server must refuse or survive, as bytes on a connection."""

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from mnist_ops.local import sample_digits

_BOUNDARY = "xyz"
_CHUNKS = 65  # of 64 KiB: just over the largest limit


@dataclass(frozen=True)
class Malformed:
    """A malformed request.

    Attributes:
        kind: what is wrong with it.
        content: what is sent.
        leaves: whether the client closes the connection without waiting for an answer.
    """

    kind: str
    content: bytes
    leaves: bool = False


def malformed_requests(count: int, seed: int = 0) -> Iterator[Malformed]:
    """That many requests of every kind in turn, different each time."""
    rng = random.Random(seed)
    makers = (
        _truncated, _noise, _flipped, _huge_declared, _short_body, _chunked_too_long, _bad_chunk,
        _broken_multipart, _unended_multipart, _bad_method, _bad_head, _empty, _other_type, _gone_early,
    )  # fmt: skip
    for number in range(count):
        yield makers[number % len(makers)](rng)


def answer_of(port: int, request: Malformed, timeout_s: float = 10) -> int | None:
    """Send a request; the status of the answer, None if the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        try:
            connection.sendall(request.content)
            if request.leaves:
                return None
            head = connection.recv(65_536)
        except (BrokenPipeError, ConnectionResetError):
            return None
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else None


def _post(body: bytes, *headers: str, length: int | None = None, path: str = "/predict") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: image/png", "Connection: close"]
    declared = len(body) if length is None else length
    if not any(header.lower().startswith("transfer-encoding") for header in headers):
        lines.append(f"Content-Length: {declared}")
    kept = [line for line in lines if not _replaced(line, headers)]
    return "\r\n".join([*kept, *headers, "", ""]).encode() + body


def _replaced(line: str, headers: tuple[str, ...]) -> bool:
    name = line.partition(":")[0].lower()
    return any(header.partition(":")[0].lower() == name for header in headers)


def _digit(rng: random.Random) -> bytes:
    return sample_digits.png(sample_digits.load("test")[0][rng.randrange(500)])


def _truncated(rng: random.Random) -> Malformed:
    png = _digit(rng)
    return Malformed("truncated image", _post(png[: rng.randrange(8, len(png) - 13)]))


def _noise(rng: random.Random) -> Malformed:
    return Malformed("random bytes", _post(rng.randbytes(rng.randrange(1, 5_000))))


def _flipped(rng: random.Random) -> Malformed:
    png = bytearray(_digit(rng))
    png[rng.randrange(41, len(png) - 16)] ^= 1 << rng.randrange(8)
    return Malformed("a flipped bit", _post(bytes(png)))


def _huge_declared(rng: random.Random) -> Malformed:
    return Malformed("a huge declared length", _post(b"x", length=rng.randrange(10**9, 10**15)))


def _short_body(rng: random.Random) -> Malformed:
    png = _digit(rng)
    return Malformed("a body shorter than declared", _post(png, length=len(png) + 100), leaves=True)


def _chunked_too_long(rng: random.Random) -> Malformed:
    chunk = b"10000\r\n" + rng.randbytes(65_536) + b"\r\n"
    return Malformed("a chunked body over the limit", _post(chunk * _CHUNKS, "Transfer-Encoding: chunked"))


def _bad_chunk(rng: random.Random) -> Malformed:
    return Malformed("a wrong chunk", _post(b"zz\r\n" + rng.randbytes(20), "Transfer-Encoding: chunked"))


def _broken_multipart(rng: random.Random) -> Malformed:
    body = f"--{_BOUNDARY}\r\nContent-Disposition\r\n\r\n".encode() + rng.randbytes(200)
    path = rng.choice(("/predict", "/batch_predict"))
    return Malformed("a broken multipart body", _post(body, _multipart(), path=path))


def _unended_multipart(rng: random.Random) -> Malformed:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    return Malformed(
        "a multipart body without its end", _post(head.encode() + rng.randbytes(500), _multipart())
    )


def _multipart() -> str:
    return f"Content-Type: multipart/form-data; boundary={_BOUNDARY}"


def _bad_method(rng: random.Random) -> Malformed:
    method = rng.choice(("GET", "PUT", "DELETE", "PATCH", "BREW"))
    head = f"{method} /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return Malformed("another method", head.encode())


def _bad_head(rng: random.Random) -> Malformed:
    return Malformed("no HTTP", rng.choice((b"\0" * 100, b"hello\r\n\r\n", b"POST\r\n\r\n")) + b"\r\n\r\n")


def _empty(_: random.Random) -> Malformed:
    return Malformed("an empty body", _post(b""))


def _other_type(rng: random.Random) -> Malformed:
    return Malformed("another type", _post(_digit(rng), "Content-Type: application/json"))


def _gone_early(rng: random.Random) -> Malformed:
    png = _digit(rng)
    return Malformed(
        "a body that stops, and a client that leaves", _post(png[:50], length=len(png)), leaves=True
    )
