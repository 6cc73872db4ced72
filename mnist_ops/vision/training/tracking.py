"""What is noted of a training, and the port of those who note it.

A training that is begun again under its name, after it was killed, goes on: what was noted from its first
new step onward is replaced where a writer can do that.
"""

import hashlib
import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from mnist_ops.domain.errors import Permanent, Transient

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # a folder is called by it

_log = logging.getLogger(__name__)


def config_digest(config: Mapping[str, object]) -> str:
    """`sha256:<hex>` of a config, whatever the order of its names."""
    text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def experiment_name(network: str, dataset: str, config: Mapping[str, object]) -> str:
    """The name of a training: the same whenever the same config is trained on the same data set.

    Args:
        network: the name of the network, for readers.
        dataset: what names the data set: its digest, or its URI.
        config: the hyperparameters.
    """
    data = hashlib.sha256(dataset.encode()).hexdigest()
    return f"{network}-{data[:8]}-{config_digest(config).removeprefix('sha256:')[:8]}"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One tracked training.

    Attributes:
        name: unique; letters, digits, dots, dashes and underscores, at most 128.
        started_at: when it began, with its time zone.
        config: the hyperparameters, as JSON values.
        dataset: the digest of the data set, `sha256:<hex>`.
        device: cpu or cuda.
        environment: versions and machine, by name.

    Raises:
        Permanent: the name cannot be that of a folder, or the time has no zone.
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
    """What became of a training; one that was killed outright still reads `running`."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended.

    Attributes:
        status: what became of it.
        at: when.
        best_epoch: the epoch whose weights were kept, from 1; None where it gave none.
        why: the error that ended it; None where it finished.
    """

    status: Status
    at: datetime
    best_epoch: int | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """The values of a queue, in short.

    Attributes:
        count: how many there are.
        mean: of them.
        std: their standard deviation around that mean.
        min: the least of them.
        max: the greatest.
    """

    count: int
    mean: float
    std: float
    min: float
    max: float

    def scalars(self, tag: str) -> dict[str, float]:
        """Its numbers under `queues/<tag>/`, for writers that know only scalars."""
        return {f"queues/{tag}/{name}": getattr(self, name) for name in ("mean", "std", "min", "max")}


class Queue:
    """A windowed metric: the last values of one that jumps from step to step.

    Args:
        length: how many values it holds; the oldest makes room.
    """

    def __init__(self, length: int) -> None:
        self._values: deque[float] = deque(maxlen=length)

    def append(self, value: float) -> None:
        """Take the newest value."""
        self._values.append(value)

    def summary(self) -> QueueSummary:
        """Its numbers now.

        Raises:
            ValueError: it is empty.
        """
        if not self._values:
            raise ValueError("the queue is empty")
        count = len(self._values)
        mean = sum(self._values) / count
        # By products, not powers: a loss that overflows shows as infinite and raises nothing.
        variance = sum((value - mean) * (value - mean) for value in self._values) / count
        return QueueSummary(count, mean, math.sqrt(variance), min(self._values), max(self._values))


class Tracker:
    """The port: notes a training somewhere. Each method does nothing until a writer has a place for it.

    Every method raises Transient where what it writes to fails.
    """

    name: str

    def begin(self, experiment: Experiment) -> None:
        """Before anything else; again, where a killed training goes on.

        Raises:
            Permanent: this writer cannot be used at all.
        """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by tag, after a step."""

    def queues(self, step: int, values: "Mapping[str, QueueSummary]") -> None:
        """Windowed metrics by tag, after a step."""

    def histograms(self, step: int, values: "Mapping[str, NDArray[np.floating]]") -> None:
        """Arrays of any shape by tag, whose distribution is shown."""

    def images(self, step: int, tag: str, images: "NDArray[np.uint8]", captions: Sequence[str]) -> None:
        """Digits uint8 (N, 28, 28), ink 255 on 0, with a caption each."""

    def graph(self, network: "nn.Module", example: "Tensor") -> None:
        """How a network is made up, seen with an example of its input; both on the CPU."""

    def embedding(
        self,
        step: int,
        tag: str,
        vectors: "NDArray[np.floating]",
        labels: Sequence[str],
        images: "NDArray[np.uint8]",
    ) -> None:
        """Where a network puts digits: vectors (N, D), with a label and an image (28, 28) each."""

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """The hyperparameters with the final metrics they led to."""

    def finish(self, outcome: Outcome) -> None:
        """After everything else."""


class Trackers(Tracker):
    """Several of them, told one after the other; one that fails is dropped and the training goes on.

    Args:
        trackers: all of them.
    """

    name = "trackers"

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that still write."""
        return tuple(tracker.name for tracker in self._trackers)

    def _tell(self, note: Callable[[Tracker], None]) -> None:
        self._trackers = tuple(tracker for tracker in self._trackers if _noted(tracker, note))

    def begin(self, experiment: Experiment) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.begin(experiment))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.scalars(step, values))

    def queues(self, step: int, values: Mapping[str, QueueSummary]) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.queues(step, values))

    def histograms(self, step: int, values: "Mapping[str, NDArray[np.floating]]") -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.histograms(step, values))

    def images(self, step: int, tag: str, images: "NDArray[np.uint8]", captions: Sequence[str]) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.images(step, tag, images, captions))

    def graph(self, network: "nn.Module", example: "Tensor") -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.graph(network, example))

    def embedding(
        self,
        step: int,
        tag: str,
        vectors: "NDArray[np.floating]",
        labels: Sequence[str],
        images: "NDArray[np.uint8]",
    ) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.embedding(step, tag, vectors, labels, images))

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.hparams(config, metrics))

    def finish(self, outcome: Outcome) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.finish(outcome))


def _noted(tracker: Tracker, note: Callable[[Tracker], None]) -> bool:
    try:
        note(tracker)
    except Transient as error:
        _log.warning("tracker %s is dropped, the training goes on: %s", tracker.name, error)
        return False
    return True
