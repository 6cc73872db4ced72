"""Which strings are URLs that may be requested."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.image_urls import is_valid_after_origin, origin_of, parse_http_url, scheme_of
from mnist_ops.domain.reasons import Reason


@pytest.mark.parametrize(
    ("url", "text", "host", "port"),
    [
        ("http://a.example/b.png", "http://a.example/b.png", "a.example", 80),
        ("HTTPS://A.Example/b?c=d#e", "HTTPS://A.Example/b?c=d#e", "a.example", 443),
        ("http://a.example:8080", "http://a.example:8080", "a.example", 8080),
        ("http://a.example?b=/c@d", "http://a.example?b=/c@d", "a.example", 80),
        ("http://[2001:DB8::1]:81/", "http://[2001:DB8::1]:81/", "[2001:db8::1]", 81),
        ("http://bücher.example/ä?ö=%20", "http://xn--bcher-kva.example/%C3%A4?%C3%B6=%20", None, 80),
        ("http://bücher.example?ö", "http://xn--bcher-kva.example?%C3%B6", None, 80),
        ("http://127。0。0。1:99/", "http://127.0.0.1:99/", "127.0.0.1", 99),
    ],
)
def test_a_url_is_parsed(url, text, host, port):
    """Host and port are those that the client will see; other alphabets are encoded in ASCII."""
    parsed = parse_http_url(url)
    assert (parsed.text, parsed.port) == (text, port)
    assert host is None or parsed.host == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "picture.png",
        "//a.example/b",
        "http:///b",
        "http://",
        "http:a.example/b",
        "http://a.example:0/",
        "http://a.example:65536/",
        "http://a.example:port/",
        "http://user@a.example/",
        "http://user:secret@a.example/",
        "http://a.example\\@b.example/",
        "http://a.example/b c",
        "http://a.example/b\nc",
        "http://a.example/\x00",
        " http://a.example/",
        "http://a.example\t/",
        "http://%31%32%37.0.0.1/",
        "http://[::1/",
        "http://[::1]x/",
        "http://\ud800.example/",
        "http://a.example/\ud800",
        "http://a.example/ä b",
        "http://a.example/" + "b" * 2048,
    ],
)
def test_a_url_in_an_unusual_form_is_invalid(url):
    """Two parsers must never find two hosts in one URL, so only the common forms pass."""
    with pytest.raises(ItemRejected) as caught:
        parse_http_url(url)
    assert caught.value.reason is Reason.INVALID_URL


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://a/", "data:image/png;base64,", "ftp://a/b", "s3://a/b", "JAR:x"]
)
def test_other_schemes_are_not_allowed(url):
    """Only http and https are fetched over HTTP."""
    with pytest.raises(ItemRejected) as caught:
        parse_http_url(url)
    assert caught.value.reason is Reason.SCHEME_NOT_ALLOWED


@given(
    st.text()
    | st.text().map("http://{}".format)
    | st.text("ab:/@[]%\\.?#1", max_size=20).map("http://{}".format)
)
def test_no_string_raises_anything_but_a_rejection(url):
    """A URL that passes is printable ASCII without a user."""
    with suppress(ItemRejected):
        parsed = parse_http_url(url)
        assert parsed.text.isascii()
        assert parsed.text.isprintable()
        assert "\\" not in parsed.text
        assert "@" not in parsed.host


def test_the_scheme_is_found_in_any_case():
    """The scheme alone decides which fetcher gets a URL."""
    assert [scheme_of(url) for url in ("S3://a/b", "https://a", "no", "")] == ["s3", "https", "", ""]


ORIGINS = ["http://a.example", "https://a.example:8443", "http://[::1]:80", "HTTP://A.example", "http://1"]


@given(
    st.sampled_from(ORIGINS),
    st.text()
    | st.text().map("/{}".format)
    | st.text("ab:/@[]%\\.?#1 \t\x80", max_size=20).map("/{}".format)
    | st.integers(2000, 2060).map(lambda count: "/" + "b" * count),
)
def test_the_fast_check_with_a_known_origin_accepts_what_the_full_check_does(origin, rest):
    """It is used only for URLs with a slash after the authority, and there both accept the same URLs."""
    assert parse_http_url(origin + "/").origin == origin
    url = origin + rest
    try:
        parse_http_url(url)
        accepted = url.isascii()
    except ItemRejected:
        accepted = False
    fast = origin_of(url) == origin and is_valid_after_origin(url, origin)
    assert fast == (accepted and rest.startswith("/"))
