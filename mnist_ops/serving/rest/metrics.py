"""What the REST API counts, in the text format of Prometheus."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from mnist_ops.domain.errors import MnistOpsError
from mnist_ops.domain.records import BundleRef
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.rest.batching import Overloaded

_LATENCIES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mnist_ops_requests",
            "Requests by route and outcome: answered, refused (4xx), overloaded, unavailable, failed, gone.",
            ("route", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mnist_ops_request_seconds",
            "Seconds from a request's head to its answer, of requests that were answered.",
            ("route",),
            buckets=_LATENCIES_S,
            registry=self._registry,
        )
        self._batches = Histogram(
            "mnist_ops_batch_images",
            "Images that were classified together.",
            buckets=_BATCH_SIZES,
            registry=self._registry,
        )
        self._model = Gauge(
            "mnist_ops_model",
            "1 for the champion that is in use.",
            ("name", "version", "digest"),
            registry=self._registry,
        )

    @contextmanager
    def request(self, route: str) -> Iterator[None]:
        """Count a request, its outcome and its duration."""
        started = perf_counter()
        outcome = "failed"
        try:
            yield
            outcome = "answered"
            self._seconds.labels(route).observe(perf_counter() - started)
        except Exception as error:
            outcome = _outcome_of(error)
            raise
        finally:
            self._requests.labels(route, outcome).inc()

    def batch(self, images: int) -> None:
        """Count a batch."""
        self._batches.observe(images)

    def text(self, champion: BundleRef | None) -> bytes:
        """Everything that was counted, and which model is in use."""
        self._model.clear()
        if champion is not None:
            self._model.labels(champion.name, str(champion.version), champion.digest).set(1)
        return generate_latest(self._registry)


def _outcome_of(error: Exception) -> str:
    if isinstance(error, ClientDisconnect):
        return "gone"
    if isinstance(error, Overloaded):
        return "overloaded"
    if isinstance(error, Problem) and error.status < 500:
        return "refused"
    return "unavailable" if isinstance(error, MnistOpsError) else "failed"
