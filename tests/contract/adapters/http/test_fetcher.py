"""The HTTP fetcher against a server that misbehaves, and against addresses that it must not reach."""

import socket
import ssl
import time
import tracemalloc
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest

from mnist_ops.adapters.http import transfers as http_transfers
from mnist_ops.adapters.http.fetcher import HttpImages
from mnist_ops.domain.addresses import block_reason
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.images import FetchedImage, FetchFailure
from mnist_ops.domain.reasons import Reason
from tests.faults.certificate import certify
from tests.faults.fetchers import NOW, fetcher_for
from tests.faults.hostile_http import Canary, HostileServer
from tests.faults.hostile_routes import BOMB, ROUTES, cuts, leads_to, ok

CAP = 100_000  # bytes, the limit of `fetcher_for`


@pytest.fixture
def server():
    """A hostile server on loopback, which the policy of `images` allows."""
    with HostileServer(dict(ROUTES)) as running:
        yield running


@pytest.fixture
def canary():
    """A listener on loopback, which the policy does not allow."""
    with Canary() as listening:
        yield listening


@pytest.fixture
def images(server):
    """Makes fetchers that may connect to the server; closes them at the end."""
    with ExitStack() as stack:
        yield lambda **limits: stack.enter_context(fetcher_for(server, **{"busy_attempts": 5, **limits}))


def one(fetcher: HttpImages, url: str) -> FetchedImage | FetchFailure:
    """The outcome of one URL."""
    (outcome,) = fetcher.fetch([url])
    assert outcome.url == url
    return outcome


# Order, connections, read-ahead.


def test_outcomes_come_in_the_order_of_the_urls(server, images):
    """The outcome of a later URL that is complete earlier waits for its turn."""
    urls = [server.url(f"late_first/{number}") for number in range(10)]
    urls.insert(3, "nonsense")
    outcomes = list(images().fetch(urls))
    assert [outcome.url for outcome in outcomes] == urls
    assert [type(outcome) for outcome in outcomes].count(FetchedImage) == 10
    assert outcomes[5].payload == b"late_first/4"


def test_no_urls_give_no_outcomes(images):
    """An empty part is not a special case."""
    assert list(images().fetch([])) == []


def test_connections_are_kept_between_requests_and_fetches(server, images):
    """Hundreds of requests need as many connections as there are requests at once."""
    fetcher = images(per_host=4)
    for _ in range(2):
        assert all(
            outcome.http_status == 200
            for outcome in fetcher.fetch(server.url(f"ok/{number}") for number in range(300))
        )
    assert server.connections <= 4
    assert server.busiest <= 4


def test_the_limit_per_host_does_not_slow_other_hosts(images, server):
    """A slow host gets `per_host` requests at once, even if many of its URLs come first."""
    with HostileServer(dict(ROUTES)) as other:
        fetcher = images(per_host=3, allowed_hosts=frozenset({server.host_port, other.host_port}))
        urls = [server.url(f"slow/{number}") for number in range(9)]
        outcomes = fetcher.fetch([*urls, *(other.url(f"ok/{number}") for number in range(20))])
        next(outcomes)
        assert sum(other.requests.values()) == 20
        assert all(isinstance(outcome, FetchedImage) for outcome in outcomes)
    assert server.busiest == 3


def test_urls_are_read_lazily_and_at_most_read_ahead_count_ahead(server, images):
    """At most `read_ahead_count` URLs are read before they are requested."""
    read = 0

    def urls():
        nonlocal read
        while True:
            read += 1
            yield server.url(f"ok/{read}")

    outcomes = images(read_ahead_count=10).fetch(urls())
    assert read == 0
    for _ in range(30):
        next(outcomes)
        assert read <= sum(server.requests.values()) + 10
    outcomes.close()


def test_bodies_that_the_caller_has_not_taken_are_bounded(server, images):
    """While the first URL is slow, others are fetched only up to `read_ahead_bytes`."""
    fetcher = images(concurrency=2, read_ahead_bytes=300_000)
    urls = [server.url("slow/1"), *(server.url(f"big/{90_000 + number}") for number in range(20))]
    outcomes = fetcher.fetch(urls)
    next(outcomes)
    assert 4 <= sum(server.requests.values()) <= 6
    assert len(list(outcomes)) == 20


def test_a_slow_caller_causes_no_timeouts(server, images):
    """Time counts against the total timeout only while the caller waits for an outcome."""
    outcomes = images(total_timeout_s=1.0).fetch(
        [server.url("ok/1"), *(server.url(f"slow/{number}") for number in range(4))]
    )
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, FetchedImage)
        time.sleep(0 if number else 1.2)
    assert number == 4


def test_closing_early_ends_the_transfers(server, images):
    """It closes the connections of the transfers in progress, and a new fetch works."""
    fetcher = images()
    outcomes = fetcher.fetch([server.url("ok/1"), server.url("slow_body/1"), server.url("slow_head/1")])
    next(outcomes)
    with pytest.raises(RuntimeError, match="one fetch at a time"):
        next(fetcher.fetch([]))
    outcomes.close()
    deadline = time.monotonic() + 3
    while server.open > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.open <= 1
    assert one(fetcher, server.url("ok/2")).payload == b"ok/2"


def test_closing_the_fetcher_in_the_middle_of_a_fetch_is_safe(server):
    """An error in the caller's loop closes the fetcher before the generator."""
    with closing(HttpImages(FetchPolicy(allowed_hosts=frozenset({server.host_port})))) as fetcher:
        outcomes = fetcher.fetch([server.url("ok/1"), server.url("slow_body/1")])
        next(outcomes)
    outcomes.close()


# Responses.


@pytest.mark.parametrize(
    ("path", "reason", "http_status", "requests"),
    [
        ("status/404", Reason.NOT_FOUND, 404, 1),
        ("status/410", Reason.NOT_FOUND, 410, 1),
        ("status/401", Reason.REFUSED_BY_SERVER, 401, 1),
        ("status/403", Reason.REFUSED_BY_SERVER, 403, 1),
        ("status/302", Reason.REFUSED_BY_SERVER, 302, 1),
        ("status/408", Reason.TIMEOUT, 408, 3),
        ("status/429", Reason.RATE_LIMITED, 429, 5),
        ("status/500", Reason.SERVER_ERROR, 500, 3),
        ("status/503", Reason.SERVER_ERROR, 503, 5),
        ("status/304", Reason.REFUSED_BY_SERVER, 304, 1),
        ("empty/200", Reason.NOT_AN_IMAGE, 200, 1),
        ("empty/204", Reason.NOT_AN_IMAGE, 204, 1),
        ("cuts", Reason.CONNECTION_FAILED, None, 3),
        ("no_http", Reason.CONNECTION_FAILED, None, 3),
        ("overstates_length", Reason.CONNECTION_FAILED, 200, 3),
        ("claims_huge", Reason.TOO_LARGE, 200, 1),
        ("big/100001", Reason.TOO_LARGE, 200, 1),
        ("loop", Reason.TOO_MANY_REDIRECTS, None, 4),
    ],
)
def test_every_bad_response_has_its_reason(server, images, path, reason, http_status, requests):
    """Only transient failures are retried, at most `attempts` times."""
    outcome = one(images(), server.url(path))
    assert isinstance(outcome, FetchFailure)
    assert (outcome.reason, outcome.http_status) == (reason, http_status)
    assert server.requests[path] == requests


def test_a_body_of_exactly_the_byte_cap_is_accepted(server, images):
    """The cap itself is allowed."""
    assert len(one(images(), server.url(f"big/{CAP}")).payload) == CAP


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_request_to_a_server_that_recovers_is_retried(server, images, code):
    """One failure costs a backoff, not the record."""
    assert isinstance(one(images(), server.url(f"recovers/{code}")), FetchedImage)


def test_one_bad_url_in_a_thousand_is_one_failure(server, images):
    """999 images and one failure."""
    urls = [server.url(f"ok/{number}") for number in range(1000)]
    urls[500] = server.url("status/404")
    outcomes = list(images().fetch(urls))
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, FetchFailure)] == [500]


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds", "requests"),
    [
        ("60", 60.0, 1),
        ("315360000", 86_400.0, 1),
        ("9" * 5000, 86_400.0, 1),
        (f"{NOW + timedelta(seconds=90):%a, %d %b %Y %H:%M:%S GMT}", 90.0, 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0, 1),
        (f"{NOW - timedelta(days=1):%a, %d %b %Y %H:%M:%S GMT}", 0.0, 5),
        ("0", 0.0, 5),
        ("soon", None, 5),
        ("-5", None, 5),
        ("1.5", None, 5),
        ("", None, 5),
        ("Thu, 99 Foo 20x6", None, 5),
        ("\xff", None, 5),
    ],
)
def test_retry_after_is_parsed_and_capped_at_a_day(server, images, code, header, seconds, requests):
    """A long one ends the URL's attempts; an invalid one is ignored."""
    server.routes["retry_after"] = lambda exchange: exchange.send(
        b"HTTP/1.1 %d No\r\nretry-AFTER: %s\r\nContent-Length: 0\r\n\r\n" % (code, header.encode("latin-1"))
    )
    outcome = one(images(), server.url("retry_after"))
    assert outcome.retry_after_s == seconds
    assert server.requests["retry_after"] == requests


def test_a_short_retry_after_delays_only_its_own_url(server, images):
    """One second of `Retry-After` is one second of delay; the other URLs continue."""

    def busy_once(exchange):
        if exchange.nth:
            ok(exchange)
        else:
            exchange.answer(503, b"", {"Retry-After": "1"})

    server.routes["busy_once"] = busy_once
    began = time.monotonic()
    urls = [*(server.url(f"ok/{n}") for n in range(50)), server.url("busy_once")]
    outcomes = images(per_host=2).fetch(urls)
    assert all(isinstance(next(outcomes), FetchedImage) for _ in range(50))
    assert time.monotonic() - began < 0.9
    assert isinstance(next(outcomes), FetchedImage)
    assert time.monotonic() - began >= 1.0


# Limits.


@pytest.mark.parametrize("path", ["slow_body/1", "slow_head/1"])
def test_a_server_that_sends_slowly_ends_at_the_total_timeout_and_delays_no_other_url(server, images, path):
    """A byte now and then does not extend the timeout."""
    began = time.monotonic()
    urls = [server.url(path), *(server.url(f"ok/{number}") for number in range(200))]
    outcomes = list(images(total_timeout_s=1.0).fetch(urls))
    assert 0.9 < time.monotonic() - began < 2.5
    assert outcomes[0].reason is Reason.TIMEOUT
    assert all(isinstance(outcome, FetchedImage) for outcome in outcomes[1:])


def test_waiting_costs_no_cpu(server, images):
    """A fetch with nothing to do sleeps."""
    before = time.process_time()
    assert one(images(total_timeout_s=1.0), server.url("silent")).reason is Reason.TIMEOUT
    assert time.process_time() - before < 0.3


def test_the_total_timeout_includes_all_attempts(server, images):
    """Backoff and retries share the same seconds."""
    began = time.monotonic()
    outcome = one(images(total_timeout_s=1.0, attempts=1000, backoff_s=0.1), server.url("status/500"))
    assert outcome.reason is Reason.SERVER_ERROR
    assert time.monotonic() - began < 1.5


def test_the_total_timeout_includes_all_redirects(server, images):
    """Each redirect gets only the seconds that are left."""

    def slow_redirect(exchange):
        exchange.pause(0.6)
        exchange.answer(302, b"", {"Location": "/slow_redirect"})

    server.routes["slow_redirect"] = slow_redirect
    began = time.monotonic()
    assert one(images(total_timeout_s=1.0), server.url("slow_redirect")).reason is Reason.TIMEOUT
    assert 0.9 < time.monotonic() - began < 1.15


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("endless/200", Reason.TOO_LARGE),
        ("endless/200/gzip", Reason.TOO_LARGE),
        ("endless/302", Reason.TOO_LARGE),
        ("endless/302/gzip", Reason.TOO_LARGE),
        ("endless/404", Reason.NOT_FOUND),
    ],
)
def test_an_endless_body_is_stopped_at_the_byte_cap(server, images, path, reason):
    """With any status: nothing is decompressed, and at most the cap is kept in memory."""
    fetcher = images()
    tracemalloc.start()
    outcome = one(fetcher, server.url(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert outcome.reason is reason
    assert peak < 3_000_000
    # No more than fits into the kernel's buffers.
    assert server.sent < 20_000_000


def test_our_own_byte_cap_stops_an_old_curl():
    """Old versions of curl check only the stated length, so we count what is received."""
    transfer = http_transfers.Transfer(FetchPolicy(max_bytes=10))
    assert transfer._write_capped(b"x" * 10) is None
    assert transfer._write_capped(b"x") == 0
    transfer.curl.close()


def test_a_body_longer_than_its_stated_length_ends_there(server, images):
    """What follows is not part of the image."""
    assert one(images(), server.url("understates_length")).payload == b"x" * 10


def test_compressed_bodies_are_returned_as_they_are(server, images):
    """Nothing is decompressed: a small decompression bomb stays small."""
    server.routes["gzip"] = lambda exchange: exchange.answer(200, BOMB, {"Content-Encoding": "gzip"})
    assert one(images(), server.url("gzip")).payload == BOMB


def test_endless_headers_are_stopped(server, images):
    """A header that never ends is a failed connection."""

    def endless_headers(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\n")
        while not exchange.server.stopping.is_set():
            exchange.send(b"Retry-After: 1\r\nX: " + b"y" * 4000 + b"\r\n")

    server.routes["endless_headers"] = endless_headers
    assert one(images(attempts=1), server.url("endless_headers")).reason is Reason.CONNECTION_FAILED
    assert server.sent < 20_000_000


def test_requests_carry_no_credentials_cookies_or_referrer(server, images, monkeypatch, tmp_path):
    """Not even if the environment or a redirect offers some."""
    (tmp_path / ".netrc").write_text("default login me password secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    server.routes["cookie"] = lambda exchange: exchange.answer(
        302, b"", {"Location": "/ok/1", "Set-Cookie": "a=b; path=/"}
    )
    server.routes["user"] = leads_to(f"http://user:secret@{server.host_port}/ok/2")
    assert isinstance(one(images(), server.url("cookie")), FetchedImage)
    one(images(), server.url("user"))
    for headers in server.received:
        headers.pop("", None)
        assert set(headers) == {"host", "user-agent", "accept", "accept-encoding"}
        assert headers["accept-encoding"] == "identity"


# Redirects.


def test_three_redirects_are_followed_and_four_are_not(server, images):
    """`max_redirects` counts the redirects of one URL."""
    fetcher = images()
    outcome = one(fetcher, server.url("redirects/3"))
    assert outcome.payload == b"ok/end"
    assert outcome.url == server.url("redirects/3")
    assert one(fetcher, server.url("redirects/4")).reason is Reason.TOO_MANY_REDIRECTS


def test_a_redirect_to_a_blocked_address_is_blocked(server, images, canary):
    """Each target is checked like a URL of a record, whether its host is an address or a name."""
    fetcher = images(resolve=[f"internal.example:{canary.port}:127.0.0.1"])
    for host in ("127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "internal.example"):
        server.routes["internal"] = leads_to(f"http://{host}:{canary.port}/")
        outcome = one(fetcher, server.url("internal"))
        assert outcome.reason is Reason.BLOCKED_ADDRESS
        assert outcome.detail.startswith("after a redirect: ")
    assert canary.connections() == 0


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", Reason.SCHEME_NOT_ALLOWED),
        ("gopher://127.0.0.1:1/x", Reason.SCHEME_NOT_ALLOWED),
        ("s3://bucket/key", Reason.SCHEME_NOT_ALLOWED),
        ("http://example.org:99999/", Reason.INVALID_URL),
        ("http://example.org/" + "x" * 3000, Reason.INVALID_URL),
    ],
)
def test_a_redirect_to_a_url_that_is_not_allowed_fails(server, images, location, reason):
    """The rules for URLs apply to redirects too."""
    server.routes["bad_target"] = leads_to(location)
    assert one(images(), server.url("bad_target")).reason is reason


# Addresses.

SPELLINGS = [
    ("http://127.0.0.1:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://2130706433:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://0x7f000001:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://0x7f.1:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://017700000001:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://127.1:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://127.0.0.1.:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://0:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://0.0.0.0:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://127。0。0。1:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://localhost:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://LOCALHOST.:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[::1]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[::]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[::ffff:127.0.0.1]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[::ffff:7f00:1]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[::1%25lo]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[fe80::1%25lo]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[64:ff9b::7f00:1]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://[64:ff9b::169.254.169.254]:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://169.254.169.254/latest/meta-data/", Reason.BLOCKED_ADDRESS),
    ("http://0xa9fea9fe/latest/meta-data/", Reason.BLOCKED_ADDRESS),
    ("http://named.example:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://named6.example:{port}/", Reason.BLOCKED_ADDRESS),
    ("https://127.0.0.1:{port}/", Reason.BLOCKED_ADDRESS),
    ("http://example.org\\@127.0.0.1:{port}/", Reason.INVALID_URL),
    ("http://example.org@127.0.0.1:{port}/", Reason.INVALID_URL),
    ("http://user:secret@127.0.0.1:{port}/", Reason.INVALID_URL),
    ("http://127.0.0.1:{port}\\.example.org/", Reason.INVALID_URL),
    ("http://%31%32%37.0.0.1:{port}/", Reason.INVALID_URL),
    ("http:127.0.0.1:{port}/", Reason.INVALID_URL),
    ("//127.0.0.1:{port}/", Reason.INVALID_URL),
    ("http://127.0.0.1:{port}/\r\nHost: example.org", Reason.INVALID_URL),
    ("file:///etc/passwd", Reason.SCHEME_NOT_ALLOWED),
    ("file://127.0.0.1:{port}/etc/passwd", Reason.SCHEME_NOT_ALLOWED),
    ("gopher://127.0.0.1:{port}/_GET", Reason.SCHEME_NOT_ALLOWED),
    ("ftp://127.0.0.1:{port}/", Reason.SCHEME_NOT_ALLOWED),
    ("dict://127.0.0.1:{port}/", Reason.SCHEME_NOT_ALLOWED),
    ("ws://127.0.0.1:{port}/", Reason.SCHEME_NOT_ALLOWED),
    ("data:image/png;base64,AAAA", Reason.SCHEME_NOT_ALLOWED),
]


def test_no_spelling_of_a_blocked_address_is_connected_to(images, canary):
    """The canary gets no connection, and each URL has its reason after one attempt."""
    names = [f"named.example:{canary.port}:127.0.0.1", f"named6.example:{canary.port}:[::ffff:127.0.0.1]"]
    urls = [spelling.format(port=canary.port) for spelling, _ in SPELLINGS]
    outcomes = list(images(resolve=names).fetch(urls))
    assert [(outcome.url, outcome.reason) for outcome in outcomes] == [
        (url, reason) for url, (_, reason) in zip(urls, SPELLINGS, strict=True)
    ]
    assert canary.connections() == 0


def test_a_name_with_blocked_and_allowed_addresses_reaches_only_the_allowed_ones(images, monkeypatch):
    """Each address is checked before it is connected to."""
    with (
        HostileServer(dict(ROUTES), host="127.0.0.3") as public,
        Canary("127.0.0.2", public.port) as internal,
    ):
        # Tests reach no public server: one loopback address takes its part.
        monkeypatch.setattr(
            http_transfers,
            "block_reason",
            lambda address: None if address == "127.0.0.3" else block_reason(address),
        )
        fetcher = images(resolve=[f"mixed.example:{public.port}:127.0.0.2,127.0.0.3"])
        outcome = one(fetcher, f"http://mixed.example:{public.port}/ok/1")
        assert outcome.payload == b"ok/1"
        assert internal.connections() == 0


def test_a_name_that_changes_its_address_is_checked_at_every_connection(images, monkeypatch):
    """DNS rebinding: an address that was public at first does not allow a later one."""
    with HostileServer({"cuts": cuts, "ok": lambda exchange: (ok(exchange), exchange.hang_up())}) as public:
        checked = []

        def first_time_public(address):
            checked.append(address)
            return None if len(checked) == 1 else block_reason(address)

        monkeypatch.setattr(http_transfers, "block_reason", first_time_public)
        fetcher = images(resolve=[f"rebinding.example:{public.port}:127.0.0.1"])
        assert isinstance(one(fetcher, f"http://rebinding.example:{public.port}/ok/1"), FetchedImage)
        outcome = one(fetcher, f"http://rebinding.example:{public.port}/ok/2")
        assert outcome.reason is Reason.BLOCKED_ADDRESS
        assert public.connections == 1


def test_an_exemption_is_for_one_host_and_port_as_they_are_written(server, images, canary):
    """Another port, or another spelling of the same address, is not exempt."""
    fetcher = images()
    assert isinstance(one(fetcher, server.url("ok/1")), FetchedImage)
    for url in (
        f"http://127.1:{server.port}/ok/2",
        f"http://2130706433:{server.port}/ok/2",
        f"http://localhost:{server.port}/ok/2",
        f"http://127.0.0.1:{canary.port}/ok/2",
    ):
        assert one(fetcher, url).reason is Reason.BLOCKED_ADDRESS
    assert server.connections == 1
    assert canary.connections() == 0


def test_proxies_of_the_environment_are_not_used(server, images, canary, monkeypatch):
    """A proxy would connect to addresses that the policy cannot check."""
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    assert isinstance(one(images(), server.url("ok/1")), FetchedImage)
    assert canary.connections() == 0


def test_a_name_without_an_address_is_a_failed_connection(images):
    """The name may exist tomorrow."""
    assert one(images(attempts=1), "http://no-such-name.invalid/").reason is Reason.CONNECTION_FAILED


def test_the_open_circuit_of_one_host_leaves_other_hosts_alone(server, images):
    """After enough failures over enough seconds, the host's other URLs fail without a request."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fetcher = images(
        allowed_hosts=frozenset({server.host_port, f"127.0.0.1:{port}"}),
        circuit_breaker_failures=4,
        circuit_breaker_failing_s=0.2,
        backoff_s=0.15,
        per_host=4,
    )
    urls = [f"http://127.0.0.1:{port}/{number}" for number in range(500)]
    began = time.monotonic()
    outcomes = list(fetcher.fetch([*urls, *(server.url(f"ok/{number}") for number in range(20))]))
    assert time.monotonic() - began < 3
    assert {outcome.reason for outcome in outcomes[:500]} == {Reason.CONNECTION_FAILED}
    assert "circuit is open" in outcomes[400].detail
    assert all(isinstance(outcome, FetchedImage) for outcome in outcomes[500:])


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    certify(folder)
    return folder


@pytest.fixture
def secure(certificate):
    """An HTTPS server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    with HostileServer(dict(ROUTES), tls=context) as running:
        yield running


def test_https_is_fetched_and_never_redirects_to_http(server, secure, images, certificate):
    """A redirect from https to http would remove the encryption."""
    fetcher = images(
        ca_file=certificate / "certificate.pem", allowed_hosts=frozenset({server.host_port, secure.host_port})
    )
    secure.routes["down"] = leads_to(server.url("ok/1"))
    server.routes["up"] = leads_to(secure.url("ok/2"))
    assert one(fetcher, secure.url("redirects/1")).payload == b"ok/end"
    assert one(fetcher, server.url("up")).payload == b"ok/2"
    outcome = one(fetcher, secure.url("down"))
    assert outcome.reason is Reason.SCHEME_NOT_ALLOWED
    assert "https" in outcome.detail
    assert server.requests["ok/1"] == 0


def test_a_slow_response_over_tls_delays_no_other_request(secure, images, certificate):
    """No request waits for another one to find out whether the server has HTTP/2."""
    fetcher = images(
        ca_file=certificate / "certificate.pem",
        allowed_hosts=frozenset({secure.host_port}),
        total_timeout_s=1.0,
    )
    outcomes = list(fetcher.fetch([secure.url("silent"), *(secure.url(f"ok/{n}") for n in range(50))]))
    assert outcomes[0].reason is Reason.TIMEOUT
    assert all(isinstance(outcome, FetchedImage) for outcome in outcomes[1:])


def test_an_untrusted_certificate_is_a_failed_connection_and_not_retried_at_once(secure, images):
    """Most have expired: a later run may meet a new one, a retry within seconds will not."""
    outcome = one(images(allowed_hosts=frozenset({secure.host_port})), secure.url("ok/1"))
    assert outcome.reason is Reason.CONNECTION_FAILED
    assert "certificate" in outcome.detail
    assert secure.connections == 1


def test_a_fetch_works_beyond_the_descriptors_that_select_can_watch(server, images):
    """A process with over a thousand open files can still fetch."""
    held = []
    try:
        while not held or held[-1].fileno() < 1100:
            held.append(socket.socket())
        outcomes = list(images().fetch(server.url(f"ok/{number}") for number in range(50)))
    except OSError:
        pytest.skip("this machine allows fewer than 1,100 open files")
    finally:
        for each in held:
            each.close()
    assert all(isinstance(outcome, FetchedImage) for outcome in outcomes)
