"""Sends each URL to the fetcher for its scheme."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from mnist_ops.domain.image_urls import scheme_of
from mnist_ops.domain.images import FetchOutcome, Validators
from mnist_ops.domain.ports import ImageFetcher


class Images:
    """Fetches http, https and s3 URLs in one stream. Implements `ImageFetcher`.

    Args:
        http: fetches what is not s3, and rejects unknown schemes.
        s3: fetches s3:// URLs.
        read_ahead_count: URLs of one kind read while the other kind's fetcher looked for more; those that a
            fetcher has taken are bounded by itself.
    """

    def __init__(self, http: ImageFetcher, s3: ImageFetcher, *, read_ahead_count: int = 2000) -> None:
        self._http = http
        self._s3 = s3
        self._read_ahead_count = read_ahead_count

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        """Fetch every URL; one value each, in order. Reads `urls` lazily."""
        split = _Split(iter(urls), self._read_ahead_count)
        http, s3 = _Branch(self._http, split, known, s3=False), _Branch(self._s3, split, known, s3=True)
        branches = {False: http, True: s3}
        try:
            while split.read(s3=False):
                while split.order:
                    yield branches[split.order[0]].next()
                    split.order.popleft()
        finally:
            for branch in branches.values():
                branch.close()


class _Split:
    """The URLs, dealt to two queues.

    Attributes:
        order: for each URL read but not answered, whether it is an s3 URL.
        queues: the URLs that no fetcher has taken yet.
    """

    def __init__(self, urls: Iterator[str], limit: int) -> None:
        self._urls = urls
        self._limit = limit
        self.order: deque[bool] = deque()
        self.queues: dict[bool, deque[str]] = {False: deque(), True: deque()}

    def read(self, *, s3: bool) -> bool:
        """Read one more URL, in search of an s3 one or one of the others.

        Returns:
            False if there is none, or enough of the kind that is not sought have been read.
        """
        if len(self.queues[not s3]) >= self._limit:
            return False
        url = next(self._urls, None)
        if url is None:
            return False
        # The first letter spares most URLs the search for a scheme.
        is_s3 = url[:1] in "sS" and scheme_of(url) == "s3"
        self.order.append(is_s3)
        self.queues[is_s3].append(url)
        return True


class _Branch:
    """One fetcher and its share of the URLs."""

    def __init__(
        self, fetcher: ImageFetcher, split: _Split, known: Mapping[str, Validators] | None, *, s3: bool
    ) -> None:
        self._fetcher = fetcher
        self._split = split
        self._known = known
        self._s3 = s3
        self._answers: Iterator[FetchOutcome] = iter(())

    def next(self) -> FetchOutcome:
        """The answer to this branch's oldest URL."""
        answer = next(self._answers, None)
        if answer is None:
            # The former fetch ended because the limit was met without a URL for it: it goes on anew.
            self._answers = iter(self._fetcher.fetch(self._share(), self._known))
            answer = next(self._answers)
        return answer

    def close(self) -> None:
        """End the fetch under way."""
        close = getattr(self._answers, "close", None)
        if close is not None:
            close()

    def _share(self) -> Iterator[str]:
        queue = self._split.queues[self._s3]
        while queue or self._split.read(s3=self._s3):
            if queue:
                yield queue.popleft()
