"""Images over HTTP, many at once, in one thread: curl's multi interface under an address policy."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mnist_ops.adapters.http.read_ahead import ReadAheadBuffer
from mnist_ops.adapters.http.scheduler import FetchScheduler
from mnist_ops.adapters.http.transfers import TransferPool
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.images import FetchOutcome, Validators


class HttpImages:
    """Fetches http and https URLs. Implements `ImageFetcher`; for one thread and one fetch at a time.

    Connections are kept from one `fetch` to the next. No proxy, credentials, cookies or content
    encodings are used.

    Args:
        policy: the limits.
        rng: randomizes the backoff between attempts.
        utcnow: the wall clock, for dates in `Retry-After`.
        resolve: addresses to use instead of DNS, in curl's format (`host:port:address[,address]`);
            the address policy applies to them too.
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
        self._transfers = TransferPool(policy, resolve, ca_file)
        self._fetching = False

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        """Fetch every URL; one outcome each, in order.

        Reads `urls` lazily, at most `read_ahead_count` ahead. Transfers advance only while the caller waits
        for the next outcome. The validators in `known` are sent to their URLs only, not along redirects.

        Raises:
            RuntimeError: another fetch of this object is not finished.
        """
        if self._fetching:
            raise RuntimeError("one fetch at a time: finish or close the previous one first")
        buffer = ReadAheadBuffer(iter(urls), {} if known is None else known, self._transfers.policy)
        scheduler = FetchScheduler(self._transfers, buffer, rng=self._rng, utcnow=self._utcnow)
        self._fetching = True
        try:
            yield from scheduler.outcomes()
        finally:
            self._transfers.end_all()
            self._fetching = False

    def close(self) -> None:
        """Close all connections, also those of an unfinished fetch."""
        self._transfers.close()
