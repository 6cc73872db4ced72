"""HTTP fetchers that may connect to the hostile servers of a test."""

import random
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from mnist_ops.adapters.http.fetcher import HttpImages
from mnist_ops.domain.fetch_policy import FetchPolicy
from tests.faults.hostile_http import HostileServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fetcher_for(
    *servers: HostileServer | str,
    ca_file: Path | None = None,
    resolve: Sequence[str] = (),
    **limits: object,
) -> closing[HttpImages]:
    """Return a fetcher that may connect to these servers (or `host:port`) on loopback; `with` closes it."""
    allowed = frozenset(server if isinstance(server, str) else server.host_port for server in servers)
    defaults = {"max_bytes": 100_000, "backoff_s": 0.02, "total_timeout_s": 10.0, "allowed_hosts": allowed}
    policy = FetchPolicy(**{**defaults, **limits})
    return closing(
        HttpImages(policy, rng=random.Random(1), utcnow=lambda: NOW, resolve=resolve, ca_file=ca_file)
    )
