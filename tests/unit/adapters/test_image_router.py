"""One stream of URLs, two fetchers."""

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.adapters.image_router import ImageRouter
from mnist_ops.adapters.memory.images import InMemoryImages
from mnist_ops.domain.images import UnchangedImage, Validators


class ReadingAhead:
    """A fetcher that reads some URLs ahead, as the real ones do."""

    def __init__(self, inner: InMemoryImages, ahead: int) -> None:
        self.inner = inner
        self.ahead = ahead
        self.closed = 0

    def fetch(self, urls, known=None):
        source, buffer = iter(urls), []
        try:
            while True:
                while len(buffer) < self.ahead and (url := next(source, None)) is not None:
                    buffer.append(url)
                if not buffer:
                    return
                yield from self.inner.fetch([buffer.pop(0)], known)
        finally:
            self.closed += 1


def test_each_url_goes_to_the_fetcher_of_its_scheme():
    """All others go to the HTTP fetcher, which rejects unknown schemes."""
    http, s3 = InMemoryImages(), InMemoryImages()
    urls = ["http://a/1", "S3://b/1", "ftp://c/1", "https://a/2", "", "s3://b/2"]
    assert [outcome.url for outcome in ImageRouter(http, s3).fetch(urls)] == urls
    assert http.fetched == ["http://a/1", "ftp://c/1", "https://a/2", ""]
    assert s3.fetched == ["S3://b/1", "s3://b/2"]


@given(
    st.lists(st.booleans(), max_size=60),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(1, 10),
)
def test_the_order_holds_however_schemes_and_read_aheads_mix(kinds, http_ahead, s3_ahead, limit):
    """Exactly one outcome a URL, in order, and no more URLs read than the sum of the limits."""
    read = 0

    def urls():
        nonlocal read
        for number, is_s3 in enumerate(kinds):
            read += 1
            yield f"{'s3' if is_s3 else 'http'}://a/{number}"

    images = ImageRouter(
        ReadingAhead(InMemoryImages(), http_ahead),
        ReadingAhead(InMemoryImages(), s3_ahead),
        read_ahead_count=limit,
    )
    taken = 0
    for taken, outcome in enumerate(images.fetch(urls()), start=1):
        assert outcome.url.endswith(f"/{taken - 1}")
        assert read <= taken + http_ahead + s3_ahead + limit
    assert taken == len(kinds)


def test_what_is_known_reaches_the_fetcher_of_each_scheme():
    """Both can send conditional requests."""
    http, s3 = InMemoryImages({"http://a/1": b"1"}), InMemoryImages({"s3://b/1": b"1"})
    known = {"http://a/1": Validators('"1"', None), "s3://b/1": Validators('"2"', None)}
    http.validators = s3.validators = known
    outcomes = list(ImageRouter(http, s3).fetch(["http://a/1", "s3://b/1"], known))
    assert outcomes == [UnchangedImage("http://a/1", 304), UnchangedImage("s3://b/1", 304)]


def test_a_slow_fetcher_does_not_keep_the_others_urls_from_being_read():
    """A fetcher bounds the URLs that it has taken; only those that no fetcher has taken count here."""
    http = ReadingAhead(InMemoryImages(), 500)
    images = ImageRouter(http, InMemoryImages(), read_ahead_count=10)
    answers = images.fetch(f"http://a/{n}" for n in range(500))
    next(answers)
    assert next(answers).url == "http://a/1"
    answers.close()


def test_an_endless_stream_is_read_only_so_far_ahead():
    """A fetcher without URLs does not read the whole stream to find one."""
    kinds = cycle(["http", *["s3"] * 50])
    images = ImageRouter(InMemoryImages(), InMemoryImages(), read_ahead_count=10)
    answers = images.fetch(f"{kind}://a/b" for kind in kinds)
    assert len([next(answers) for _ in range(500)]) == 500
    answers.close()


def test_closing_early_closes_both_fetchers():
    """Handles and threads are freed, not left to the garbage collector."""
    http, s3 = ReadingAhead(InMemoryImages(), 3), ReadingAhead(InMemoryImages(), 3)
    answers = ImageRouter(http, s3).fetch(["http://a/1", "s3://b/1", *["http://a/2"] * 10])
    next(answers)
    next(answers)
    answers.close()
    assert (http.closed, s3.closed) == (1, 1)


def test_a_fetcher_that_loses_an_outcome_is_an_error():
    """The router neither waits for it for ever nor gives the URL another one's outcome."""

    class Losing:
        def fetch(self, urls, known=None):
            return (
                outcome for outcome in InMemoryImages().fetch(urls, known) if not outcome.url.endswith("lost")
            )

    outcomes = ImageRouter(Losing(), InMemoryImages()).fetch(["http://a/1", "http://a/lost"])
    assert next(outcomes).url == "http://a/1"
    with pytest.raises(AssertionError, match="fewer outcomes"):
        next(outcomes)
