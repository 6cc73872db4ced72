"""Images over HTTP, many at once, in one thread: curl's multi interface under an address policy."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mnist_ops.adapters.http_runs import Run
from mnist_ops.adapters.http_transfers import Transfers
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.images import FetchedImage, FetchFailure


class HttpImages:
    """Fetches http and https URLs. Implements `ImageFetcher`; for one thread and one fetch at a time.

    Connections are kept from one `fetch` to the next. No proxy, credentials, cookies or content
    encodings are used. Closed by `close` or as a context manager.

    Args:
        policy: the limits.
        rng: spreads the waits between attempts.
        utcnow: the wall clock, for dates in `Retry-After`.
        resolve: answers to use instead of DNS, as curl writes them (`host:port:address[,address]`);
            the address policy holds for them too.
        ca_file: certificates to trust instead of the system's.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        rng: random.Random | None = None,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
        resolve: Sequence[str] = (),
        ca_file: Path | None = None,
    ) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._utcnow = utcnow
        self._transfers = Transfers(policy, resolve, ca_file)
        self._run: Run | None = None

    def fetch(self, urls: Iterable[str]) -> Iterator[FetchedImage | FetchFailure]:
        """Fetch every URL; one value each, in order.

        Reads `urls` lazily, at most `read_ahead_count` ahead. Transfers go on only while a value is
        asked for.

        Raises:
            RuntimeError: another fetch of this object is not finished.
        """
        if self._run is not None:
            raise RuntimeError("one fetch at a time: finish or close the former one first")
        self._run = run = Run(self._transfers, iter(urls), rng=self._rng, utcnow=self._utcnow)
        try:
            yield from run.outcomes()
        finally:
            run.abandon()
            self._run = None

    def close(self) -> None:
        """Close all connections, those of an unfinished fetch too."""
        if self._run is not None:
            self._run.abandon()
        self._transfers.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()
