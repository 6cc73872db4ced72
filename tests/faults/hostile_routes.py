"""Bad responses for the hostile server, and a few good ones."""

import gzip

from tests.faults.hostile_http import Exchange, Route

BOMB = gzip.compress(bytes(10_000_000))


def ok(exchange: Exchange) -> None:
    """The path is the image."""
    exchange.answer(200, exchange.path.encode())


def big(exchange: Exchange) -> None:
    """As many bytes as the path says."""
    exchange.answer(200, b"x" * int(exchange.path.partition("/")[2]))


def status(exchange: Exchange) -> None:
    """The status in the path."""
    exchange.answer(int(exchange.path.split("/")[1]), b"some words")


def recovers(exchange: Exchange) -> None:
    """Fails with the status in the path until the second request."""
    if exchange.nth == 0:
        status(exchange)
    else:
        ok(exchange)


def redirects(exchange: Exchange) -> None:
    """Counts down: /redirects/2 redirects to /redirects/1, and that to /ok/end."""
    left = int(exchange.path.split("/")[1])
    exchange.answer(302, b"", {"Location": f"/redirects/{left - 1}" if left > 1 else "/ok/end"})


def leads_to(location: str) -> Route:
    """A redirect to anywhere."""
    return lambda exchange: exchange.answer(302, b"elsewhere", {"Location": location})


def endless(exchange: Exchange) -> None:
    """Chunks without end; the path has the status, and `gzip` if they are a decompression bomb."""
    code = int(exchange.path.split("/")[1])
    encoding = "Content-Encoding: gzip\r\n" if "gzip" in exchange.path else ""
    location = "Location: /ok/1\r\n" if code == 302 else ""
    head = f"HTTP/1.1 {code} On\r\n{encoding}{location}Transfer-Encoding: chunked\r\n\r\n"
    exchange.send(head.encode())
    block = BOMB if "gzip" in exchange.path else bytes(16_384)
    while not exchange.server.stopping.is_set():
        exchange.send(b"%x\r\n%s\r\n" % (len(block), block))


def understates_length(exchange: Exchange) -> None:
    """States ten bytes and sends a million."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b"x" * 1_000_000)
    exchange.hang_up()


def overstates_length(exchange: Exchange) -> None:
    """States a thousand bytes, sends five and hangs up."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
    exchange.hang_up()


def claims_huge(exchange: Exchange) -> None:
    """States a hundred gigabytes and sends none."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    exchange.pause(5)


def slow_body(exchange: Exchange) -> None:
    """Five bytes a second."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    exchange.trickle(b"x" * 1000, 0.2)


def slow_head(exchange: Exchange) -> None:
    """Headers, five bytes a second."""
    exchange.trickle(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100, 0.2)


def steady(exchange: Exchange) -> None:
    """A hundred kilobytes a second, 64 at a time: never silent for long, and never complete."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while not exchange.server.stopping.wait(0.6):
        exchange.send(bytes(65_536))


def silent(exchange: Exchange) -> None:
    """Receives the request and sends nothing."""
    exchange.pause(5)
    exchange.hang_up()


def slow(exchange: Exchange) -> None:
    """Answers after 0.3 s."""
    exchange.pause(0.3)
    ok(exchange)


def cuts(exchange: Exchange) -> None:
    """Closes the connection without a response."""
    exchange.hang_up()


def no_http(exchange: Exchange) -> None:
    """Sends another protocol than HTTP."""
    exchange.send(b"SSH-2.0-OpenSSH\r\n")
    exchange.hang_up()


def late_first(exchange: Exchange) -> None:
    """The lower the number in the path, the later the response."""
    exchange.pause(0.02 * (10 - int(exchange.path.split("/")[1])))
    ok(exchange)


def empty(exchange: Exchange) -> None:
    """The status in the path, without a body."""
    exchange.answer(int(exchange.path.split("/")[1]))


ROUTES: dict[str, Route] = {
    "ok": ok,
    "big": big,
    "status": status,
    "recovers": recovers,
    "redirects": redirects,
    "loop": leads_to("/loop"),
    "endless": endless,
    "understates_length": understates_length,
    "overstates_length": overstates_length,
    "claims_huge": claims_huge,
    "slow_body": slow_body,
    "slow_head": slow_head,
    "steady": steady,
    "silent": silent,
    "slow": slow,
    "cuts": cuts,
    "no_http": no_http,
    "late_first": late_first,
    "empty": empty,
}
