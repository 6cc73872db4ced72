"""Sends each URL to the fetcher for its scheme."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping

from mnist_ops.domain.image_urls import scheme_of
from mnist_ops.domain.images import FetchOutcome, Validators
from mnist_ops.domain.ports import ImageFetcher


class ImageRouter:
    """Fetches http, https and s3 URLs in one stream. Implements `ImageFetcher`.

    Args:
        http: fetches what is not s3, and rejects unknown schemes.
        s3: fetches s3:// URLs.
        read_ahead_count: URLs of one kind that may wait while the other kind's fetcher reads on to find its
            own. A fetcher bounds the URLs that it has taken itself.
    """

    def __init__(self, http: ImageFetcher, s3: ImageFetcher, *, read_ahead_count: int = 2000) -> None:
        self._http = http
        self._s3 = s3
        self._read_ahead_count = read_ahead_count

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        queues = _UrlQueues(iter(urls), self._read_ahead_count)
        http = _outcomes(self._http, queues, known, s3=False)
        s3 = _outcomes(self._s3, queues, known, s3=True)
        try:
            while queues.read(s3=False):
                while queues.order:
                    yield next(s3 if queues.order[0] else http)
                    queues.order.popleft()
        finally:
            http.close()
            s3.close()


class _UrlQueues:
    """Reads one stream of URLs into two queues, one a fetcher.

    Attributes:
        order: for each URL that has no outcome yet, whether it is an s3 URL.
    """

    def __init__(self, urls: Iterator[str], limit: int) -> None:
        self._urls = urls
        self._limit = limit
        self.order: deque[bool] = deque()
        self._queues: dict[bool, deque[str]] = {False: deque(), True: deque()}

    def read(self, *, s3: bool) -> bool:
        """Read one more URL, of either kind, for the s3 or the http fetcher.

        Returns:
            False if there is no more URL, or the other fetcher's queue is full.
        """
        if len(self._queues[not s3]) >= self._limit:
            return False
        url = next(self._urls, None)
        if url is None:
            return False
        # Most URLs have another first letter: looking at it saves the search for a scheme.
        is_s3 = url[:1] in "sS" and scheme_of(url) == "s3"
        self.order.append(is_s3)
        self._queues[is_s3].append(url)
        return True

    def has(self, *, s3: bool) -> bool:
        """Whether a URL was read for one fetcher and not taken yet."""
        return bool(self._queues[s3])

    def take(self, *, s3: bool) -> Iterator[str]:
        """Yield the URLs for one fetcher, until `read` returns False."""
        queue = self._queues[s3]
        while queue or self.read(s3=s3):
            if queue:
                yield queue.popleft()


def _outcomes(
    fetcher: ImageFetcher, queues: _UrlQueues, known: Mapping[str, Validators] | None, *, s3: bool
) -> Generator[FetchOutcome, None, None]:
    """Yield the outcomes of one fetcher's URLs; only as many may be asked for as URLs were read for it."""
    while queues.has(s3=s3):
        # A fetch ends when the other queue is full before a URL for this one was read: then the next begins.
        yield from fetcher.fetch(queues.take(s3=s3), known)
    raise AssertionError("a fetcher gave fewer outcomes than it took URLs")
