"""The limits of fetching images, and which hosts and buckets are allowed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """The limits of one fetcher; docs/fetching.md explains them for operation.

    Attributes:
        total_timeout_s: seconds for one URL from its first request on: attempts, redirects and backoff
            together. Time in which the caller does not ask for the next outcome does not count.
        connect_timeout_s: seconds to establish a connection, TLS included.
        max_bytes: largest body, in bytes; a transfer is stopped as soon as it is larger.
        max_redirects: redirects followed for one URL.
        concurrency: transfers at once. Those that have lasted over a second do not count, up to this
            number of them.
        per_host: most transfers at once to one host and port. The limit of a host begins at 4, grows while
            it answers as fast as before, and is halved by a sign of overload: 429, 502, 503, 504, a timeout
            or a failed connection.
        attempts: retry budget of one URL: requests while its failures are transient, the first included.
        busy_attempts: the same while the responses are 429 or 503, which show that the host is alive.
        backoff_s: seconds before the second attempt, randomized by half; doubles with each further one.
        max_retry_after_s: the longest `Retry-After`, in seconds, that is waited for in the same fetch; a
            longer one ends the URL's attempts and goes into its outcome.
        circuit_breaker_failures: transient failures of a host in a row that can open its circuit.
        circuit_breaker_failing_s: seconds that a host must have been failing before its circuit opens.
        circuit_breaker_open_s: seconds that a circuit stays open: all URLs of the host fail without a
            request. Then requests are sent again.
        host_budget_s: seconds for all URLs of one host in one fetch, from its first request on; then the
            others fail with `timeout` without a request, and a later run tries them again.
        allowed_hosts: `host:port` pairs, lower-case and as in the URLs (IPv6 in brackets), that may
            have a blocked address. There is no switch that allows all of them.
        buckets: those that s3:// URLs may name; by default none, because they are read with the pipeline's
            own credentials.
        read_ahead_bytes: memory of the read-ahead buffer: bodies that the caller has not taken yet, and
            1 KiB for each URL. At this limit only the oldest URL may start a transfer; transfers in
            progress continue.
        read_ahead_count: URLs read but not complete, without those that wait for a host which has not
            answered for half a second.
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
    max_retry_after_s: float = 5.0
    circuit_breaker_failures: int = 4
    circuit_breaker_failing_s: float = 15.0
    circuit_breaker_open_s: float = 10.0
    host_budget_s: float = 600.0
    allowed_hosts: frozenset[str] = frozenset()
    buckets: frozenset[str] = frozenset()
    read_ahead_bytes: int = 64 << 20
    read_ahead_count: int = 2000
