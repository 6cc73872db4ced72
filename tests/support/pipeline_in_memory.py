"""The pipeline over the shipped in-memory adapters, with the real steps and the real classifier."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from mnist_ops import pipeline as product
from mnist_ops.adapters.memory.images import InMemoryImages
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.memory.registries import InMemoryDatasets, InMemoryModels, InMemoryRuns
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.gate import Gate
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.manifest import Manifest
from mnist_ops.domain.outcomes import FailureBudget, Ledger
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.local import sample_digits
from mnist_ops.settings import Settings
from mnist_ops.steps.artifacts.bundles import Load
from mnist_ops.steps.artifacts.shard_kinds import OUTCOMES, OutcomeRow, RowT, ShardKind
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.steps.build_dataset import build_dataset
from mnist_ops.steps.promote import GateResult
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.minimums import Minimums
from mnist_ops.vision.inference.classifier import Classifier, load_classifier
from tests.support.doubles import Doubles

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
CREATED = datetime(2026, 1, 30, 12, tzinfo=UTC)
MODEL = "lenet5"
PROMOTION = Promotion(AT, "ada", "it is better")
NO_MINIMUMS = Minimums(test=0, validation=0, of_each_label=0)
# On folds of some fifty digits chance alone makes calibration errors over the default limit.
LENIENT = Gate(maximum_ece=0.2, minimum_accuracy=0.5)


def url_of(name: object) -> str:
    """The URL of an image in the in-memory image server."""
    return f"https://images.example/{name}.png"


def png_of(number: int, split: str = "test") -> bytes:
    """A sample digit as a PNG."""
    images, _ = sample_digits.load(split)
    return sample_digits.png(images[number])


def label_of(number: int, split: str = "test") -> str:
    """What a sample digit shows."""
    _, labels = sample_digits.load(split)
    return DIGITS.name(int(labels[number]))


def build_small_dataset(steps: product.Pipeline, manifest: str, images: Sequence[str]) -> str:
    """Build a data set that may be too small to train on; returns its manifest's URI."""
    ports = steps.adapters
    return build_dataset(
        manifest,
        images,
        records=ports.records,
        objects=ports.objects,
        datasets=ports.datasets,
        budget=ports.settings.budget,
        minimums=NO_MINIMUMS,
    )


class Loader:
    """Loads every bundle once, so that a test which classifies often is quick."""

    def __init__(self) -> None:
        self._classifiers: dict[str, Classifier] = {}

    def __call__(self, folder: Path, digest: str) -> Classifier:
        """The classifier of a bundle."""
        if digest not in self._classifiers:
            self._classifiers[digest] = load_classifier(folder, digest)
        return self._classifiers[digest]


def shard_rows(objects: InMemoryObjects, kind: ShardKind[RowT], uri: str) -> list[RowT]:
    """All rows of a shard."""
    with open_shard(objects, uri, kind) as shard:
        return list(shard.rows())


@dataclass
class Pipeline:
    """The pipeline over the doubles of every port, with a clock and with steps that take all parts at once.

    Attributes:
        load: loads a bundle.
        at: the time; moves on by an hour a run.
    """

    load: Load
    records: InMemoryRecords = field(default_factory=InMemoryRecords)
    objects: InMemoryObjects = field(default_factory=InMemoryObjects)
    runs: InMemoryRuns = field(default_factory=InMemoryRuns)
    models: InMemoryModels = field(default_factory=InMemoryModels)
    datasets: InMemoryDatasets = field(default_factory=InMemoryDatasets)
    images: InMemoryImages = field(default_factory=InMemoryImages)
    at: datetime = AT

    def adapters(self, settings: Settings) -> Doubles:
        """The ports, with some settings."""
        return Doubles(
            settings=settings,
            records=self.records,
            objects=self.objects,
            runs=self.runs,
            models=self.models,
            datasets=self.datasets,
            fetcher=self.images,
            load=self.load,
        )

    def steps(self, **settings: object) -> product.Pipeline:
        """The product's own pipeline over these ports, with some settings, at the time `at`."""
        chosen = Settings(device="cpu", records_per_part=1_000).model_copy(update=settings)
        return product.Pipeline(self.adapters(chosen), now=lambda: self.at)

    def copy(self) -> "Pipeline":
        """A pipeline of its own with the same contents."""
        return copy.deepcopy(self, {id(self.load): self.load})

    def add_digit(self, record_id: object, number: int = 0, **other: object) -> None:
        """Add a record of a sample digit, with the image behind its URL."""
        url = str(other.get("image_url", url_of(record_id)))
        self.images.images[url] = png_of(number)
        self.add(record_id, **{"image_url": url, **other})

    def add(self, record_id: object, **other: object) -> None:
        """Add a record; what it refers to may not be there."""
        self.records.insert(
            {"_id": record_id, "image_url": url_of(record_id), "created_at": CREATED, **other}
        )

    # --- steps

    def snapshot(
        self, run: str = "dag/run", generation: int = 0, records_per_part: int = 1_000, **selection: object
    ) -> str:
        """Take a snapshot; returns the manifest's URI."""
        policy = Reclassify(selection.pop("reclassify", "never"))
        values: dict[str, object] = {"at": self.at, "reclassify": policy, **selection}
        steps = self.steps(records_per_part=records_per_part)
        return steps.snapshot(Generation(run, generation), Selection(**values))

    def manifest(self, uri: str) -> Manifest:
        """A manifest, read."""
        return self.steps().manifest(uri)

    def fetch(self, manifest: str, reuse: str | None = None) -> list[str]:
        """Fetch every part; returns the image shards."""
        steps = self.steps()
        return [steps.fetch(part, reuse_dataset=reuse) for part in steps.parts(manifest)]

    def classify(self, shards: Sequence[str], review_below: float = 0.9) -> list[str]:
        """Classify every image shard; returns the prediction shards."""
        return [self.steps(review_below=review_below).classify(uri) for uri in shards]

    def assess(self, manifest: str, predictions: Sequence[str], budget: FailureBudget | None = None) -> str:
        """Assess; returns the assessment."""
        budget = budget or FailureBudget()
        steps = self.steps(failure_budget=budget.share, failure_budget_from=budget.minimum_records)
        return steps.assess(manifest, predictions)

    def publish(self, predictions: Sequence[str], assessment: str) -> list[str]:
        """Publish every prediction shard; returns the outcome shards."""
        return [self.steps().publish(uri, assessment) for uri in predictions]

    def reconcile(self, manifest: str, outcomes: Sequence[str]) -> Ledger:
        """Write the ledger."""
        return self.steps().reconcile(manifest, outcomes)

    # --- several steps

    def predictions_of(self, manifest: str) -> list[str]:
        """Fetch and classify every part; returns the prediction shards."""
        return self.classify(self.fetch(manifest))

    def ready_to_publish(
        self, run: str = "dag/run", generation: int = 0, **selection: object
    ) -> "ReadyToPublish":
        """Snapshot, fetch, classify and assess; the clock moves on."""
        manifest = self.snapshot(run, generation, **selection)
        predictions = self.predictions_of(manifest)
        ready = ReadyToPublish(self, manifest, predictions, self.assess(manifest, predictions))
        self.at += timedelta(hours=1)
        return ready

    def run(self, run: str = "dag/run", generation: int = 0, **selection: object) -> Ledger:
        """The whole pipeline, once."""
        ready = self.ready_to_publish(run, generation, **selection)
        return self.reconcile(ready.manifest, ready.publish())

    def outcomes(self, shards: Sequence[str]) -> dict[str, OutcomeRow]:
        """The rows of outcome shards by record id."""
        rows = [row for uri in shards for row in shard_rows(self.objects, OUTCOMES, uri)]
        return {str(row["record_id"]): row for row in rows}

    # --- training

    def dataset(self, run: str = "train/run", reuse: str | None = None, **selection: object) -> str:
        """A data set of all labelled records, however few; returns its manifest's URI."""
        manifest = self.snapshot(run, labelled=True, **selection)
        return build_small_dataset(self.steps(), manifest, self.fetch(manifest, reuse))

    def train(self, dataset: str, **config: object) -> str:
        """Train; returns the training's URI."""
        with TemporaryDirectory() as folder:
            steps = self.steps(training_dir=Path(folder))
            return steps.train(dataset, TrainingConfig.model_validate(config))

    def evaluate(self, training: str) -> str:
        """Evaluate; returns the evaluation's URI."""
        return self.steps().evaluate(training)

    def release(self, evaluation: str, gate: Gate = LENIENT) -> GateResult:
        """Register what was evaluated, as a candidate."""
        steps = self.steps(
            gate_significance=gate.significance,
            gate_maximum_ece=gate.maximum_ece,
            minimum_accuracy=gate.minimum_accuracy,
        )
        return steps.release(evaluation)

    def promote(self, evaluation: str, gate: Gate = LENIENT) -> GateResult:
        """Release, and promote where the gate allows it."""
        return self.steps().promote(self.release(evaluation, gate), who="the tests")


@dataclass(frozen=True)
class Trained:
    """A pipeline that holds a training, and the URIs of what it made.

    Attributes:
        pipeline: is not changed; tests take copies.
        dataset: the data set's manifest.
        training: the training.
        evaluation: its evaluation, there being no champion.
    """

    pipeline: Pipeline
    dataset: str
    training: str
    evaluation: str


@dataclass(frozen=True)
class ReadyToPublish:
    """A run whose predictions are made and assessed, but not written."""

    pipeline: Pipeline
    manifest: str
    predictions: list[str]
    assessment: str

    def publish(self) -> list[str]:
        """Write them; returns the outcome shards."""
        return self.pipeline.publish(self.predictions, self.assessment)

    def outcome_of(self, record_id: str) -> OutcomeRow:
        """Publish, and say what became of one record, named by its canonical Extended JSON."""
        return self.pipeline.outcomes(self.publish())[record_id]
