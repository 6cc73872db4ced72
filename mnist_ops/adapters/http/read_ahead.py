"""The URLs that one fetch is at, in their order: read, but not yet handed over."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.images import FetchedImage, FetchOutcome, Validators

if TYPE_CHECKING:
    from mnist_ops.adapters.http.hosts import Host

# What a URL takes besides its body: our objects, and as much again for the record it belongs to.
_ERRAND_BYTES = 1024


class Errand:
    """One URL on its way to an outcome.

    Attributes:
        url: as it was asked for.
        known: what an earlier answer to that URL came with.
        target: what is requested now, in ASCII: the URL, or where it was redirected to.
        host: whom that asks.
        attempts: requests that failed.
        hops: redirects followed.
        deadline: when it ends at the latest, in the fetch's seconds; 0 before its first request.
        started: when its present request began, in the same seconds.
        queued: whether it waits for its turn to be transferred.
        outcome: None until it is decided.
    """

    __slots__ = (
        "attempts",
        "deadline",
        "hops",
        "host",
        "known",
        "outcome",
        "queued",
        "started",
        "target",
        "url",
    )

    host: "Host"

    def __init__(self, url: str, known: Validators | None) -> None:
        self.url = self.target = url
        self.known = known
        self.attempts = self.hops = 0
        self.deadline = self.started = 0.0
        self.queued = False
        self.outcome: FetchOutcome | None = None


class Window:
    """Reads URLs ahead and hands outcomes over in order, within a bound of memory.

    Args:
        urls: read lazily.
        known: validators by URL.
        policy: the limits.

    Attributes:
        excused: of the undecided URLs, how many do not count, because they wait for hosts that lag.
    """

    __slots__ = ("_errands", "_held", "_known", "_policy", "_undecided", "_urls", "excused")

    def __init__(
        self, urls: Iterator[str], known: Mapping[str, Validators] | None, policy: FetchPolicy
    ) -> None:
        self._urls: Iterator[str] | None = urls
        self._known = known
        self._policy = policy
        self._errands: deque[Errand] = deque()
        self._undecided = 0
        self._held = 0
        self.excused = 0

    def __bool__(self) -> bool:
        """Whether anything is left to hand over."""
        return bool(self._errands)

    @property
    def crowded(self) -> bool:
        """Whether as many URLs are undecided as may be."""
        return self._undecided - self.excused >= self._policy.read_ahead_count

    @property
    def full(self) -> bool:
        """Whether no more memory may be taken, except for what the reader waits for."""
        return self._held + _ERRAND_BYTES * len(self._errands) >= self._policy.read_ahead_bytes

    @property
    def head_queued(self) -> bool:
        """Whether what the reader waits for has not been asked for yet."""
        return bool(self._errands) and self._errands[0].queued

    @property
    def head_decided(self) -> bool:
        """Whether there is something to hand over."""
        return bool(self._errands) and self._errands[0].outcome is not None

    def read(self) -> Errand | None:
        """Read one more URL; None if there is none or the window is crowded."""
        if self._urls is None or self.crowded:
            return None
        url = next(self._urls, None)
        if url is None:
            self._urls = None
            return None
        errand = Errand(url, None if self._known is None else self._known.get(url))
        self._errands.append(errand)
        self._undecided += 1
        return errand

    def decide(self, errand: Errand, outcome: FetchOutcome) -> None:
        """Settle what becomes of an errand."""
        errand.outcome = outcome
        self._undecided -= 1
        if type(outcome) is FetchedImage:
            self._held += len(outcome.payload)

    def decided(self, most: int) -> Iterator[FetchOutcome]:
        """Hand over outcomes, in order, as far as they are decided."""
        errands = self._errands
        for _ in range(most):
            if not errands or (outcome := errands[0].outcome) is None:
                return
            errands.popleft()
            # It is the reader's now, and until it comes back for more it may hold it.
            yield outcome
            if type(outcome) is FetchedImage:
                self._held -= len(outcome.payload)
