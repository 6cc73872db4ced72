"""Conditional requests: an image is sent only if it has changed."""

import pytest

from mnist_ops.domain.images import FetchedImage, FetchFailure, UnchangedImage, Validators
from mnist_ops.domain.reasons import Reason
from tests.faults.fetchers import fetcher_for
from tests.faults.hostile_http import HostileServer
from tests.faults.hostile_routes import ROUTES, leads_to

DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


def versioned(exchange):
    """An image whose version is the number at the end of the path."""
    etag = f'"{exchange.path.rpartition("/")[2]}"'
    if exchange.headers.get("if-none-match") == etag:
        exchange.send(f"HTTP/1.1 304 Same\r\nETag: {etag}\r\n\r\n".encode())
    else:
        exchange.answer(200, b"image", {"eTag": etag, "Last-Modified": DATE})


@pytest.fixture
def server():
    """A server whose images have versions."""
    with HostileServer({**ROUTES, "versioned": versioned}) as running:
        yield running


def test_an_image_comes_with_its_validators(server):
    """As they were sent, with header names in any case; None if there are none."""
    server.routes["dated"] = lambda exchange: exchange.answer(200, b"image", {"last-modified": DATE})
    with fetcher_for(server) as images:
        paths = ("versioned/1", "dated", "ok/1")
        outcomes = list(images.fetch(server.url(path) for path in paths))
    assert [outcome.validators for outcome in outcomes] == [
        Validators('"1"', DATE),
        Validators(None, DATE),
        None,
    ]


def test_an_image_that_has_not_changed_is_not_sent_again(server):
    """Both validators are sent; the outcome is `UnchangedImage`, in the order of the URLs."""
    same, changed, new = (server.url(f"versioned/{number}") for number in range(3))
    known = {same: Validators('"0"', DATE), changed: Validators('"old"', None)}
    with fetcher_for(server, per_host=1) as images:
        outcomes = list(images.fetch([same, changed, new], known))
    assert outcomes[0] == UnchangedImage(same, 304)
    assert [outcome.payload for outcome in outcomes[1:]] == [b"image"] * 2
    assert server.received[0]["if-none-match"] == '"0"'
    assert server.received[0]["if-modified-since"] == DATE


def test_validators_are_not_sent_with_the_next_request(server):
    """Curl handles are reused, their conditional headers are not."""
    known = {server.url("versioned/1"): Validators('"1"', DATE)}
    with fetcher_for(server, per_host=1) as images:
        list(images.fetch([server.url("versioned/1"), server.url("versioned/2")], known))
    assert "if-none-match" in server.received[0]
    assert not {"if-none-match", "if-modified-since"} & set(server.received[1])


def test_a_304_to_an_unconditional_request_is_a_failure(server):
    """There is no earlier image that it could mean."""
    with fetcher_for(server) as images:
        known = {
            server.url("other"): Validators('"1"', None),
            server.url("status/304"): Validators(None, None),
        }
        (outcome,) = images.fetch([server.url("status/304")], known)
    assert isinstance(outcome, FetchFailure)
    assert outcome.reason is Reason.REFUSED_BY_SERVER


@pytest.mark.parametrize("elsewhere", [True, False])
def test_validators_are_not_sent_along_a_redirect(server, elsewhere):
    """They belong to the original URL, and another server should not learn them."""
    with HostileServer({"versioned": versioned}) as second:
        target = (second if elsewhere else server).url("versioned/1")
        server.routes["moved"] = leads_to(target)
        url = server.url("moved")
        with fetcher_for(server, second) as images:
            (outcome,) = images.fetch([url], {url: Validators('"1"', DATE), target: Validators('"1"', DATE)})
        assert outcome == FetchedImage(url, b"image", 200, None)
        request = (second if elsewhere else server).received[-1]
        assert not {"if-none-match", "if-modified-since"} & set(request)
    assert server.received[0]["if-none-match"] == '"1"'


def test_a_304_after_a_redirect_is_a_failure(server):
    """The request to the target of the redirect was unconditional."""
    server.routes["moved"] = leads_to(server.url("status/304"))
    url = server.url("moved")
    with fetcher_for(server) as images:
        (outcome,) = images.fetch([url], {url: Validators('"1"', None)})
    assert outcome.reason is Reason.REFUSED_BY_SERVER


def test_a_retried_request_sends_the_same_validators(server):
    """A 503 in between does not change them."""

    def later(exchange):
        if exchange.nth == 0:
            exchange.answer(503, b"not now", {"ETag": '"of the error"'})
        else:
            versioned(exchange)

    server.routes["later"] = later
    url = server.url("later/1")
    with fetcher_for(server) as images:
        assert list(images.fetch([url], {url: Validators('"1"', None)})) == [UnchangedImage(url, 304)]


@pytest.mark.parametrize(
    "value", ["\xff", "x" * 257, "", "  ", '"a\tb"'], ids=["not ascii", "long", "empty", "blank", "tab"]
)
def test_validators_that_cannot_be_sent_back_are_dropped(server, value):
    """They would be of no use to a later request."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: %s\r\n\r\nx" % value.encode("latin-1")
    server.routes["odd"] = lambda exchange: exchange.send(head)
    with fetcher_for(server) as images:
        (outcome,) = images.fetch([server.url("odd")])
    assert outcome.validators is None


@pytest.mark.parametrize("etag", ['"1"\r\nX-Injected: yes', '"1"\nX: y', "\u20ac", "x" * 257])
def test_validators_that_cannot_come_from_a_server_are_not_sent(server, etag):
    """They come from a stored file, which somebody may have changed to inject headers."""
    url = server.url("ok/1")
    with fetcher_for(server) as images:
        (outcome,) = images.fetch([url], {url: Validators(etag, None)})
    assert isinstance(outcome, FetchedImage)
    assert not {"if-none-match", "x-injected", "x"} & set(server.received[0])


def test_known_validators_may_be_added_while_urls_are_read(server):
    """They are looked up when their URL is read, not before."""
    known = {}

    def urls():
        known[server.url("versioned/1")] = Validators('"1"', None)
        yield server.url("versioned/1")

    with fetcher_for(server) as images:
        assert list(images.fetch(urls(), known)) == [UnchangedImage(server.url("versioned/1"), 304)]
