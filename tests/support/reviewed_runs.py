"""A run whose predictions all need a review, for tests of what people do with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.domain.keys import Generation
from mnist_ops.pipeline import Pipeline
from tests.support.small_runs import SmallRuns

RUN = Generation("classify_records/one")


def number_id(number: int) -> str:
    """The id of a record of `SmallRuns.document`, as canonical Extended JSON."""
    return f'{{"$numberInt": "{number}"}}'


@dataclass
class Clock:
    """The time, which a test moves on."""

    at: datetime = datetime(2026, 2, 1, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def wait(self, **duration: float) -> None:
        """Let time pass."""
        self.at += timedelta(**duration)


@dataclass
class ReviewedRuns:
    """Small runs of a model that says seven, and is never sure enough.

    Attributes:
        clock: the time of what people do.
        runs: the stores.
        steps: the pipeline that people's work goes through.
    """

    clock: Clock = field(default_factory=Clock)
    runs: SmallRuns = field(default_factory=lambda: SmallRuns(InMemoryObjects(), InMemoryRecords()))
    steps: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self.steps = replace(self.runs.steps(review_below=1.1), now=self.clock)

    def run(self, numbers: Sequence[int] = (), generation: Generation = RUN, **selection: object) -> None:
        """Add records of sample digits, and take them through a run."""
        self.runs.records.insert(*(self.runs.document(number) for number in numbers))
        manifest = self.runs.snapshot(generation, **selection)
        predictions = [self.steps.classify(uri) for uri in self.runs.fetch(manifest)]
        self.runs.reconcile(manifest, self.runs.publish(manifest, predictions))

    def set_confidence(self, number: int, confidence: float) -> None:
        """Make a prediction less certain than the model was."""
        document = self.runs.records.document(number)
        document["prediction"]["confidence"] = confidence
        self.runs.records.insert(document)
