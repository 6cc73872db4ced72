"""What the REST API counts, in the text format of Prometheus."""

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
        self._of_route: dict[str, tuple[Counter, Histogram]] = {}
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

    def answered(self, route: str, seconds: float) -> None:
        """Count a request that was answered, and how long it took."""
        # Children are kept here: looking them up takes longer than counting.
        counter, histogram = self._of_route.get(route) or self._add_route(route)
        counter.inc()
        histogram.observe(seconds)

    def failed(self, route: str, error: Exception) -> None:
        """Count a request that was not answered, by the kind of the error."""
        self._requests.labels(route, _outcome_of(error)).inc()

    def _add_route(self, route: str) -> tuple[Counter, Histogram]:
        children = self._requests.labels(route, "answered"), self._seconds.labels(route)
        return self._of_route.setdefault(route, children)

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
