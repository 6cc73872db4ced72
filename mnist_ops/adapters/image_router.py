"""Sends each URL to the fetcher for its scheme."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

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
        """Fetch every URL; one outcome each, in order. Reads `urls` lazily."""
        queues = _UrlQueues(iter(urls), self._read_ahead_count)
        http, s3 = _Branch(self._http, queues, known, s3=False), _Branch(self._s3, queues, known, s3=True)
        branches = {False: http, True: s3}
        try:
            while queues.read(s3=False):
                while queues.order:
                    yield branches[queues.order[0]].next()
                    queues.order.popleft()
        finally:
            for branch in branches.values():
                branch.close()


class _UrlQueues:
    """Reads one stream of URLs into two queues, one a fetcher.

    Attributes:
        order: for each URL that has no outcome yet, whether it is an s3 URL.
        queues: the URLs that no fetcher has taken yet, by whether they are s3 URLs.
    """

    def __init__(self, urls: Iterator[str], limit: int) -> None:
        self._urls = urls
        self._limit = limit
        self.order: deque[bool] = deque()
        self.queues: dict[bool, deque[str]] = {False: deque(), True: deque()}

    def read(self, *, s3: bool) -> bool:
        """Read one more URL, of either kind, for the fetcher that needs one.

        Args:
            s3: which fetcher needs a URL.

        Returns:
            False if there is no more URL, or the other fetcher's queue is full.
        """
        if len(self.queues[not s3]) >= self._limit:
            return False
        url = next(self._urls, None)
        if url is None:
            return False
        # Most URLs have another first letter: looking at it saves the search for a scheme.
        is_s3 = url[:1] in "sS" and scheme_of(url) == "s3"
        self.order.append(is_s3)
        self.queues[is_s3].append(url)
        return True


class _Branch:
    """One fetcher and its queue of URLs."""

    def __init__(
        self, fetcher: ImageFetcher, queues: _UrlQueues, known: Mapping[str, Validators] | None, *, s3: bool
    ) -> None:
        self._fetcher = fetcher
        self._queues = queues
        self._known = known
        self._s3 = s3
        self._outcomes: Iterator[FetchOutcome] = iter(())

    def next(self) -> FetchOutcome:
        """The outcome of this branch's oldest URL."""
        outcome = next(self._outcomes, None)
        if outcome is None:
            # The last fetch ended because the other queue was full before a URL for this one was read.
            self._outcomes = iter(self._fetcher.fetch(self._urls(), self._known))
            outcome = next(self._outcomes)
        return outcome

    def close(self) -> None:
        """End the fetch in progress."""
        close = getattr(self._outcomes, "close", None)
        if close is not None:
            close()

    def _urls(self) -> Iterator[str]:
        queue = self._queues.queues[self._s3]
        while queue or self._queues.read(s3=self._s3):
            if queue:
                yield queue.popleft()
