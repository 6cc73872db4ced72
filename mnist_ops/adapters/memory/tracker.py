"""A tracker that keeps what it is told, for tests and for trying things out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Tracker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn


class InMemoryTracker(Tracker):
    """Keeps everything in lists, in the order it came.

    Args:
        fails_at: the step from which on every call fails, as that of a full disk does; None for never.

    Attributes:
        experiments: as they began.
        told: the scalars, (step, tag, value).
        queued: the queues, (step, tag, summary).
        distributions: the histograms, (step, tag, array).
        shown: the images, (step, tag, images, captions).
        networks: the graphs.
        embeddings: (step, tag, vectors, labels, images).
        tried: (config, metrics).
        outcomes: as they ended.
    """

    name = "in memory"

    def __init__(self, fails_at: int | None = None) -> None:
        self._fails_at = fails_at
        self.experiments: list[Experiment] = []
        self.told: list[tuple[int, str, float]] = []
        self.queued: list[tuple[int, str, QueueSummary]] = []
        self.distributions: list[tuple[int, str, NDArray[np.floating]]] = []
        self.shown: list[tuple[int, str, NDArray[np.uint8], tuple[str, ...]]] = []
        self.networks: list[nn.Module] = []
        self.embeddings: list[tuple[int, str, NDArray[np.floating], tuple[str, ...], NDArray[np.uint8]]] = []
        self.tried: list[tuple[Mapping[str, object], Mapping[str, float]]] = []
        self.outcomes: list[Outcome] = []

    def begin(self, experiment: Experiment) -> None:
        """Keep it."""
        self.experiments.append(experiment)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Keep them."""
        self._require_room(step)
        self.told += [(step, tag, value) for tag, value in values.items()]

    def queues(self, step: int, values: Mapping[str, QueueSummary]) -> None:
        """Keep them."""
        self._require_room(step)
        self.queued += [(step, tag, summary) for tag, summary in values.items()]

    def histograms(self, step: int, values: "Mapping[str, NDArray[np.floating]]") -> None:
        """Keep copies of the arrays, which may be the weights themselves."""
        self._require_room(step)
        self.distributions += [(step, tag, array.copy()) for tag, array in values.items()]

    def images(self, step: int, tag: str, images: "NDArray[np.uint8]", captions: Sequence[str]) -> None:
        """Keep them."""
        self._require_room(step)
        self.shown.append((step, tag, images, tuple(captions)))

    def graph(self, network: "nn.Module", example: "Tensor") -> None:
        """Keep the network."""
        del example
        self.networks.append(network)

    def embedding(
        self,
        step: int,
        tag: str,
        vectors: "NDArray[np.floating]",
        labels: Sequence[str],
        images: "NDArray[np.uint8]",
    ) -> None:
        """Keep all of it."""
        self._require_room(step)
        self.embeddings.append((step, tag, vectors, tuple(labels), images))

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Keep both."""
        self.tried.append((config, metrics))

    def finish(self, outcome: Outcome) -> None:
        """Keep it."""
        self.outcomes.append(outcome)

    def _require_room(self, step: int) -> None:
        if not self.experiments:
            raise Permanent("in memory: no experiment has begun")
        if self._fails_at is not None and step >= self._fails_at:
            raise Transient("No space left on device")
