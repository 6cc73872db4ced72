"""The image server, without a network: its protocol is fed bytes."""

import asyncio
import os

import pytest

from mnist_ops.local import image_server


class Wire(asyncio.Transport):
    """Takes what the server writes."""

    def __init__(self):
        super().__init__()
        self.sent, self.closed = b"", False

    def write(self, data):
        self.sent += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


@pytest.fixture
def root(tmp_path):
    """A folder to serve, with secrets beside it."""
    root = tmp_path / "served"
    (root / "train").mkdir(parents=True)
    (root / "train" / "7.png").write_bytes(b"PNG bytes")
    (root / "with space.txt").write_text("text")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "served-too").mkdir()
    (tmp_path / "served-too" / "x.txt").write_text("secret")
    return os.path.realpath(root)


@pytest.fixture
def talk(root):
    """Sends pieces of bytes over one connection; returns what came back and whether it was closed."""

    def send(*pieces):
        wire = Wire()
        connection = image_server._Connection(root)
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
        return wire.sent, wire.closed

    return send


def test_a_file_is_served_with_type_and_length(talk):
    """And the connection stays open."""
    answer, closed = talk(b"GET /train/7.png HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: image/png" in head
    assert b"Content-Length: 9" in head
    assert (body, closed) == (b"PNG bytes", False)


def test_a_request_may_arrive_byte_by_byte_and_requests_may_arrive_together(talk):
    """TCP keeps no boundaries."""
    request = b"GET /train/7.png?size=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    assert talk(*(bytes([byte]) for byte in request))[0].count(b"PNG bytes") == 1
    assert talk(request * 3)[0].count(b"PNG bytes") == 3


@pytest.mark.parametrize(
    "target",
    [
        "/absent.png",
        "/",
        "/train",
        "/train/",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/train/../../secret.txt",
        "/../served-too/x.txt",
        "/link.txt",
        "//etc/passwd",
        "/a%00b",
        "/" + "a" * 5000,
    ],
)
def test_what_is_no_file_below_the_folder_is_not_found(talk, target):
    """Whatever the path looks like; and the connection goes on."""
    answer, closed = talk(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"secret" not in answer
    assert not closed


def test_percent_encoded_names_are_found(talk):
    """As browsers send them."""
    assert talk(b"GET /with%20space.txt HTTP/1.1\r\n\r\n")[0].endswith(b"\r\n\r\ntext")


def test_head_is_answered_without_a_body(talk):
    """Also where there is nothing."""
    assert talk(b"HEAD /train/7.png HTTP/1.1\r\n\r\n")[0].endswith(b"\r\n\r\n")
    assert talk(b"HEAD /absent HTTP/1.1\r\n\r\n")[0].endswith(b"\r\n\r\n")


def test_an_image_that_did_not_change_is_not_sent_again(talk):
    """A conditional request names the version it has."""
    answer, _ = talk(b"GET /train/7.png HTTP/1.1\r\n\r\n")
    etag = next(line[6:] for line in answer.split(b"\r\n") if line.startswith(b"ETag: "))
    again, _ = talk(b"GET /train/7.png HTTP/1.1\r\nIf-None-Match: " + etag + b"\r\n\r\n")
    assert again.startswith(b"HTTP/1.1 304 ")
    assert again.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"]
)
def test_a_client_that_does_not_want_to_stay_is_let_go(talk, request_):
    """HTTP/1.0 clients do not unless they say so."""
    assert talk(request_)[1]


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET http://other/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
)
def test_what_it_does_not_understand_is_refused_and_the_connection_ends(talk, request_):
    """Guessing where the next request begins would be dangerous."""
    answer, closed = talk(request_, b"GET /train/7.png HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert closed
    assert b"PNG" not in answer


def test_other_methods_are_not_allowed(talk):
    """There is nothing to change here."""
    answer, _ = talk(b"DELETE /train/7.png HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD" in answer


def test_an_endless_head_is_refused(talk):
    """Before it fills the memory."""
    answer, closed = talk(b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert closed
