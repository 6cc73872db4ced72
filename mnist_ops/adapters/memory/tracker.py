"""A tracker that keeps everything in memory, for tests and experiments."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Tracker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from mnist_ops.vision.training.tracking import Digits


class InMemoryTracker(Tracker):
    """Keeps everything in lists, in the order of the calls.

    Args:
        fails_at: the step from which every call raises Transient, as on a full disk; None for never.

    Attributes:
        experiments: the experiments that began.
        logged_scalars: (step, tag, value).
        logged_queues: (step, tag, summary).
        logged_histograms: (step, tag, array).
        logged_images: (step, tag, images, captions).
        logged_graphs: the networks.
        logged_embeddings: (step, tag, vectors, labels, images).
        logged_hparams: (config, metrics).
        outcomes: the outcomes of the experiments that ended.
    """

    name = "in memory"

    def __init__(self, fails_at: int | None = None) -> None:
        self._fails_at = fails_at
        self.experiments: list[Experiment] = []
        self.logged_scalars: list[tuple[int, str, float]] = []
        self.logged_queues: list[tuple[int, str, QueueSummary]] = []
        self.logged_histograms: list[tuple[int, str, NDArray[np.floating]]] = []
        self.logged_images: list[tuple[int, str, Digits, tuple[str, ...]]] = []
        self.logged_graphs: list[nn.Module] = []
        self.logged_embeddings: list[tuple[int, str, NDArray[np.floating], tuple[str, ...], Digits]] = []
        self.logged_hparams: list[tuple[Mapping[str, object], Mapping[str, float]]] = []
        self.outcomes: list[Outcome] = []

    def begin(self, experiment: Experiment) -> None:
        self.experiments.append(experiment)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._require_room(step)
        self.logged_scalars += [(step, tag, value) for tag, value in values.items()]

    def queues(self, step: int, values: Mapping[str, QueueSummary]) -> None:
        self._require_room(step)
        self.logged_queues += [(step, tag, summary) for tag, summary in values.items()]

    def histograms(self, step: int, values: "Mapping[str, NDArray[np.floating]]") -> None:
        """Keep copies of the arrays, which may share memory with the weights."""
        self._require_room(step)
        self.logged_histograms += [(step, tag, array.copy()) for tag, array in values.items()]

    def images(self, step: int, tag: str, images: "Digits", captions: Sequence[str]) -> None:
        self._require_room(step)
        self.logged_images.append((step, tag, images, tuple(captions)))

    def graph(self, network: "nn.Module", example: "Tensor") -> None:
        del example
        self.logged_graphs.append(network)

    def embedding(
        self, step: int, tag: str, vectors: "NDArray[np.floating]", labels: Sequence[str], images: "Digits"
    ) -> None:
        self._require_room(step)
        self.logged_embeddings.append((step, tag, vectors, tuple(labels), images))

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        self.logged_hparams.append((config, metrics))

    def finish(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def _require_room(self, step: int) -> None:
        if not self.experiments:
            raise Permanent("in memory: no experiment has begun")
        if self._fails_at is not None and step >= self._fails_at:
            raise Transient("No space left on device")
