"""The URLs that one fetch is at, and what it knows of the hosts they lead to."""

from collections import deque

from mnist_ops.adapters.http_answers import Trouble
from mnist_ops.domain.addresses import forbidden_because, literal_address
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.image_urls import HttpUrl
from mnist_ops.domain.images import FetchedImage, FetchFailure
from mnist_ops.domain.reasons import Reason

_MOST_REMEMBERED = 4096


class Errand:
    """One URL on its way to an outcome.

    Attributes:
        url: as it was asked for.
        target: what is requested now: the URL, or where it was redirected to.
        host: whom that asks.
        attempts: requests that failed.
        hops: redirects followed.
        deadline: when it ends at the latest, in the fetch's seconds; None before its first request.
        queued: whether it waits for its turn to be transferred.
        outcome: None until it is decided.
    """

    __slots__ = ("attempts", "deadline", "hops", "host", "outcome", "queued", "target", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.target: HttpUrl
        self.host: Host
        self.attempts = 0
        self.hops = 0
        self.deadline: float | None = None
        self.queued = False
        self.outcome: FetchedImage | FetchFailure | None = None


class Host:
    """One host and port.

    Attributes:
        name: `host:port`.
        exempt: whether the policy allows it a forbidden address.
        forbidden: why it is not asked at all, if its name spells a forbidden address.
        claims: errands of this host that are under way or about to be.
        waiting: errands beyond the limit per host, the oldest first.
    """

    __slots__ = (
        "_dead_until",
        "_failing_since",
        "_failures",
        "claims",
        "exempt",
        "forbidden",
        "name",
        "waiting",
    )

    def __init__(self, url: HttpUrl, policy: FetchPolicy) -> None:
        self.name = f"{url.host}:{url.port}"
        self.exempt = self.name in policy.allowed_hosts
        literal = None if self.exempt else literal_address(url.host)
        # The open-socket callback would refuse it too; but a connection that was opened under another,
        # allowed spelling of the address must not serve this one.
        self.forbidden = None if literal is None else forbidden_because(literal)
        self.claims = 0
        self.waiting: deque[Errand] = deque()
        self._failures = 0
        self._failing_since: float | None = None
        self._dead_until = 0.0

    def dead(self, now: float) -> bool:
        """Whether it has failed so long that its URLs are not worth a request now."""
        return now < self._dead_until

    def answered(self) -> None:
        """Note that it lives."""
        self._failures = 0
        self._failing_since = None

    def failed(self, now: float, policy: FetchPolicy) -> None:
        """Note that a request got no answer."""
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = now
        long = now - self._failing_since >= policy.dead_host_after_s
        if long and self._failures >= policy.dead_host_failures:
            self._dead_until = now + policy.dead_host_rest_s

    def death_notice(self) -> Trouble:
        """Why an errand to a dead host failed."""
        detail = f"{self.name} failed {self._failures} times in a row and is left alone for some seconds"
        return Trouble(Reason.CONNECTION_FAILED, detail)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return not self.claims and not self._failures


class Hosts:
    """The hosts that one fetch has met.

    Args:
        policy: the limits.
    """

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._hosts: dict[tuple[str, int], Host] = {}

    def of(self, url: HttpUrl) -> Host:
        """The host that a URL leads to, always the same one while it is in use."""
        key = (url.host, url.port)
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= _MOST_REMEMBERED:
                self._hosts = {key: host for key, host in self._hosts.items() if not host.idle}
            host = self._hosts[key] = Host(url, self._policy)
        return host
