"""Experiment tracking: what is recorded of a training, and the port `Tracker` that records it.

A training that was killed and is started again under its name resumes. A tracker then replaces what it
recorded from the first new step on, if its storage can do that.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from operator import methodcaller
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self

from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.domain.keys import sha256_hex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    Digits = NDArray[np.uint8]  # (N, 28, 28), ink 255 on 0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # also the name of a folder

_P = ParamSpec("_P")

_log = logging.getLogger(__name__)


def config_digest(config: Mapping[str, object]) -> str:
    """Return `sha256:<hex>` of a config; the order of its fields does not matter."""
    text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"))
    return f"sha256:{sha256_hex(text.encode())}"


def experiment_name(network: str, dataset: str, config: Mapping[str, object]) -> str:
    """Return the name of a training: the same for the same config and data set (its digest or its URI)."""
    data = sha256_hex(dataset.encode())
    return f"{network}-{data[:8]}-{config_digest(config).removeprefix('sha256:')[:8]}"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One tracked training.

    Attributes:
        name: unique; letters, digits, dots, dashes and underscores, at most 128.
        started_at: the start, with a time zone.
        config: the hyperparameters, as JSON values.
        dataset: the digest of the data set, `sha256:<hex>`.
        device: cpu or cuda.
        environment: versions and machine, by name.

    Raises:
        Permanent: the name cannot name a folder, or the start has no time zone.
    """

    name: str
    started_at: datetime
    config: Mapping[str, object]
    dataset: str
    device: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Permanent(f"experiment {self.name!r}: expected letters, digits, dots, dashes, underscores")
        if self.started_at.utcoffset() is None:
            raise Permanent(f"experiment {self.name}: its start {self.started_at} has no time zone")

    @property
    def config_digest(self) -> str:
        """`sha256:<hex>` of the hyperparameters."""
        return config_digest(self.config)


class Status(StrEnum):
    """The state of a training; `running` also after its process was killed with SIGKILL."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended.

    Attributes:
        status: finished, failed or interrupted.
        best_epoch: the epoch whose weights were kept, from 1; None unless it finished.
        why: the error that ended it; None if it finished.
    """

    status: Status
    at: datetime
    best_epoch: int | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """Statistics of a queue: the last values of a metric that is noisy from step to step.

    Attributes:
        count: how many values it holds.
        std: their population standard deviation.
    """

    count: int
    mean: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Collection[float]) -> Self:
        """Compute the statistics of some values.

        Raises:
            ValueError: there are none.
        """
        if not values:
            raise ValueError("the queue is empty")
        count = len(values)
        mean = sum(values) / count
        # A product, not a power: a product that overflows is infinite, a power raises OverflowError.
        variance = sum((value - mean) * (value - mean) for value in values) / count
        return cls(count, mean, math.sqrt(variance), min(values), max(values))

    def scalars(self, tag: str) -> dict[str, float]:
        """The statistics as scalars `queues/<tag>/<name>`, for trackers that store only scalars."""
        return {f"queues/{tag}/{name}": getattr(self, name) for name in ("mean", "std", "min", "max")}


class Tracker:
    """The port: records a training. Every method does nothing; a tracker overrides those that it can store.

    Every method raises Transient if the storage fails.
    """

    name: str

    def begin(self, experiment: Experiment) -> None:
        """Start, or resume, an experiment. Called once, before any other method.

        Raises:
            Permanent: the tracker cannot record this experiment.
        """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by tag, after a step."""

    def queues(self, step: int, values: "Mapping[str, QueueSummary]") -> None:
        """Record windowed metrics by tag, after a step."""

    def histograms(self, step: int, values: "Mapping[str, NDArray[np.floating]]") -> None:
        """Record the distribution of arrays of any shape, by tag."""

    def images(self, step: int, tag: str, images: "Digits", captions: Sequence[str]) -> None:
        """Record digits uint8 (N, 28, 28), ink 255 on 0, with N captions."""

    def graph(self, network: "nn.Module", example: "Tensor") -> None:
        """Record the graph of a network, traced with an example of its input; both on the CPU."""

    def embedding(
        self, step: int, tag: str, vectors: "NDArray[np.floating]", labels: Sequence[str], images: "Digits"
    ) -> None:
        """Record the embedding of N digits: vectors (N, D), N labels, images uint8 (N, 28, 28)."""

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Record the hyperparameters and the final metrics."""

    def finish(self, outcome: Outcome) -> None:
        """Record the end. Called last; again if something fails after a finished training."""


def _on_each(method: Callable[Concatenate[Tracker, _P], None]) -> Callable[Concatenate["Trackers", _P], None]:
    """A method of `Trackers` that calls this method of each of its trackers."""

    def call_each(trackers: "Trackers", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        trackers.active = tuple(
            tracker
            for tracker in trackers.active
            if _succeeds(tracker, methodcaller(method.__name__, *args, **kwargs))
        )

    return call_each


class Trackers(Tracker):
    """Calls several trackers in order; one that raises Transient is dropped, and the training continues.

    Attributes:
        active: the trackers that still record.
    """

    name = "trackers"

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.active = tuple(trackers)

    begin = _on_each(Tracker.begin)
    scalars = _on_each(Tracker.scalars)
    queues = _on_each(Tracker.queues)
    histograms = _on_each(Tracker.histograms)
    images = _on_each(Tracker.images)
    graph = _on_each(Tracker.graph)
    embedding = _on_each(Tracker.embedding)
    hparams = _on_each(Tracker.hparams)
    finish = _on_each(Tracker.finish)


def _succeeds(tracker: Tracker, call: Callable[[Tracker], None]) -> bool:
    try:
        call(tracker)
    except Transient as error:
        _log.warning("tracker %s is dropped, the training continues: %s", tracker.name, error)
        return False
    return True
