"""What fetching images may cost, and whom it may ask."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """The limits of one fetcher; docs/fetching.md says what they mean in service.

    Attributes:
        total_timeout_s: seconds for one URL from its first request on: attempts, redirects and waits
            between them together. Time in which nobody asks the fetcher for more does not count.
        connect_timeout_s: seconds to a connection, TLS included.
        max_bytes: largest body, in bytes; a transfer is stopped as soon as it is larger.
        max_redirects: how many redirects are followed.
        concurrency: transfers at once. Those that have lasted for over a second do not count, until they
            are as many again.
        per_host: transfers at once to one host and port, at most: it begins with a few, gets more while it
            answers as quickly as before, and half as many when it says that it is asked too much (429, 503)
            or does not answer.
        attempts: requests for one URL while its failures are transient, the first included;
        busy_attempts: the same while the answers are 429 or 503, which say that the host lives.
        backoff_s: seconds before the second attempt, give or take half; doubles with each further one.
        patience_s: the longest `Retry-After`, in seconds, that is waited for here; a longer one ends
            the URL's attempts and is passed on.
        dead_host_failures: that many transient failures of a host in a row,
        dead_host_after_s: over at least so many seconds, make it count as dead:
        dead_host_rest_s: for so many seconds its URLs fail at once, then it is tried again.
        host_budget_s: seconds for all URLs of one host in one fetch, from its first request on; then its
            remaining ones fail at once with `timeout`, and a later run asks for them.
        allowed_hosts: `host:port` pairs, lower-case and as URLs write them (IPv6 in brackets), that may
            have a forbidden address. There is no switch that allows them all.
        buckets: those that s3:// URLs may name; by default none, since they are read with the pipeline's
            own credentials.
        read_ahead_bytes: memory for what is read ahead: bodies that their reader has not yet taken, and
            some hundred bytes for each URL. Above it no transfer is started, those under way may still end.
        read_ahead_count: URLs read but not yet answered, not counting those that wait for a host which
            has not answered for half a second.
    """

    total_timeout_s: float = 20.0
    connect_timeout_s: float = 5.0
    max_bytes: int = 4 << 20
    max_redirects: int = 3
    concurrency: int = 64
    per_host: int = 32
    attempts: int = 3
    busy_attempts: int = 8
    backoff_s: float = 0.5
    patience_s: float = 5.0
    dead_host_failures: int = 4
    dead_host_after_s: float = 15.0
    dead_host_rest_s: float = 10.0
    host_budget_s: float = 600.0
    allowed_hosts: frozenset[str] = frozenset()
    buckets: frozenset[str] = frozenset()
    read_ahead_bytes: int = 64 << 20
    read_ahead_count: int = 2000
