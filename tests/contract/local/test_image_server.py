"""The image server as a process of its own, asked with raw requests."""

import http.client

import pytest

from mnist_ops.local import stack
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST
from tests.support.servers import free_ports_of_a_stack


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """A running image server; there are secrets beside the folder that it serves."""
    layout = Layout(tmp_path_factory.mktemp("stack"))
    folder = layout.images
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "7.png").write_bytes(b"PNG bytes")
    (folder / "with space.txt").write_text("text")
    (folder / "inside.txt").symlink_to("with space.txt")
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "outside.txt").symlink_to(folder.parent / "secret.txt")
    (folder.parent / "images-too").mkdir()
    (folder.parent / "images-too" / "x.txt").write_text("secret")
    stack.up(layout, free_ports_of_a_stack(), parts={"images"}, mongo_answers=lambda *_: False)
    yield layout
    stack.down(layout)


@pytest.fixture
def ask(layout):
    """Sends requests over one connection, their targets as given; returns answer and body."""
    connection = http.client.HTTPConnection(HOST, stack.load(layout).ports.images, timeout=10)

    def send(target, method="GET", **headers):
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer, answer.read()

    yield send
    connection.close()


def test_a_file_is_served_with_type_and_length_and_the_connection_stays_open(ask):
    """An image server closes no connection after an answer."""
    for target in ("/train/7.png", "/train/7.png?size=1"):
        answer, body = ask(target)
        assert (answer.status, answer.version, answer.will_close) == (200, 11, False)
        assert (answer.getheader("Content-Type"), answer.getheader("Content-Length")) == ("image/png", "9")
        assert body == b"PNG bytes"


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
        "/../images-too/x.txt",
        "/outside.txt",
        "//etc/passwd",
        "/a%00b",
        "/" + "a" * 5000,
    ],
)
def test_what_is_no_file_below_the_folder_is_not_found(ask, target):
    """No folder is listed, and neither a path nor a symbolic link leads out of the folder."""
    answer, body = ask(target)
    assert answer.status == 404
    assert b"secret" not in body
    assert b"7.png" not in body
    assert not answer.will_close


@pytest.mark.parametrize("target", ["/with%20space.txt", "/inside.txt"])
def test_percent_encoded_names_and_links_inside_the_folder_are_served(ask, target):
    """A link is followed to a file below the folder."""
    answer, body = ask(target)
    assert (answer.status, body) == (200, b"text")


def test_head_is_answered_without_a_body(ask):
    """Also where there is no such file."""
    answer, body = ask("/train/7.png", "HEAD")
    assert (answer.status, answer.getheader("Content-Length"), body) == (200, "9", b"")
    answer, body = ask("/absent", "HEAD")
    assert (answer.status, body) == (404, b"")


def test_an_image_that_did_not_change_is_not_sent_again(ask):
    """A conditional request names the version that the client has."""
    answer, _ = ask("/train/7.png")
    again, body = ask("/train/7.png", If_None_Match=answer.getheader("ETag"))
    assert (again.status, body) == (304, b"")


def test_methods_other_than_get_and_head_are_not_allowed(ask):
    """The server is read-only."""
    answer, _ = ask("/train/7.png", "DELETE")
    assert answer.status == 405
    assert answer.getheader("Allow") == "GET, HEAD"


def test_requests_are_not_logged(ask, layout):
    """A run asks for thousands of images."""
    ask("/train/7.png")
    assert layout.log("images").read_bytes() == b""
