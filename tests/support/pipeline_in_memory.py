"""The pipeline over the shipped in-memory adapters, with the real steps and the real classifier."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mnist_ops.adapters.memory.stores import (
    InMemoryDatasets,
    InMemoryImages,
    InMemoryModels,
    InMemoryObjects,
    InMemoryRecords,
    InMemoryRuns,
)
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.gate import Gate
from mnist_ops.domain.keys import Generation, part_reference
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.manifest import Manifest
from mnist_ops.domain.outcomes import FailureBudget, Ledger
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.local import sample_digits
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.shards import Row, open_shard
from mnist_ops.steps.assess import assess
from mnist_ops.steps.build_dataset import build_dataset
from mnist_ops.steps.classify import Load, classify
from mnist_ops.steps.evaluate import evaluate
from mnist_ops.steps.fetch import fetch
from mnist_ops.steps.promote import Verdict, promote_candidate
from mnist_ops.steps.publish import publish
from mnist_ops.steps.reconcile import reconcile
from mnist_ops.steps.release import release
from mnist_ops.steps.snapshot import SnapshotRequest, snapshot
from mnist_ops.steps.train import train
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.inference.classifier import Classifier, load_classifier

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
CREATED = datetime(2026, 1, 30, 12, tzinfo=UTC)
MODEL = "lenet5"
PROMOTION = Promotion(AT, "ada", "it is better")
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


class Loader:
    """Loads every bundle once, so that a test which classifies often is quick."""

    def __init__(self) -> None:
        self._classifiers: dict[str, Classifier] = {}

    def __call__(self, folder: Path, digest: str) -> Classifier:
        """The classifier of a bundle."""
        if digest not in self._classifiers:
            self._classifiers[digest] = load_classifier(folder, digest)
        return self._classifiers[digest]


def shard_rows(objects: InMemoryObjects, kind: str, uri: str) -> list[Row]:
    """All rows of a shard."""
    with open_shard(objects, uri, kind) as shard:
        return list(shard.rows())


@dataclass
class Pipeline:
    """Every port, in memory, and the steps over them.

    Attributes:
        load: loads a bundle.
        at: the selection time of the next run; moves on by an hour a run.
    """

    load: Load
    records: InMemoryRecords = field(default_factory=InMemoryRecords)
    objects: InMemoryObjects = field(default_factory=InMemoryObjects)
    runs: InMemoryRuns = field(default_factory=InMemoryRuns)
    models: InMemoryModels = field(default_factory=InMemoryModels)
    datasets: InMemoryDatasets = field(default_factory=InMemoryDatasets)
    images: InMemoryImages = field(default_factory=InMemoryImages)
    at: datetime = AT
    _runs_so_far: int = 0

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

    def request(self, run: str = "dag/run", generation: int = 0, **selection: object) -> SnapshotRequest:
        """What a snapshot is asked for, by an attempt of its own."""
        self._runs_so_far += 1
        size = selection.pop("records_per_part", 1_000)
        policy = Reclassify(selection.pop("reclassify", "never"))
        values: dict[str, object] = {"at": self.at, "reclassify": policy, **selection}
        return SnapshotRequest(
            generation=Generation(run, generation),
            selection=Selection(**values),
            attempt=f"attempt-{self._runs_so_far}",
            model_name=MODEL,
            records_per_part=size,
        )

    def snapshot(self, run: str = "dag/run", generation: int = 0, **selection: object) -> str:
        """Take a snapshot; returns the manifest's URI."""
        return self.take(self.request(run, generation, **selection))

    def take(self, request: SnapshotRequest) -> str:
        """Take the snapshot that a request asks for."""
        return snapshot(
            request, records=self.records, objects=self.objects, runs=self.runs, models=self.models
        )

    def manifest(self, uri: str) -> Manifest:
        """A manifest, read."""
        return read_manifest(self.objects, uri)

    def parts(self, manifest: str) -> list[str]:
        """References to the parts of a manifest."""
        return [part_reference(manifest, part.number) for part in self.manifest(manifest).parts]

    def fetch(self, manifest: str, reuse: str | None = None) -> list[str]:
        """Fetch every part; returns the image shards."""
        return [
            fetch(
                part,
                records=self.records,
                objects=self.objects,
                images=self.images,
                now=lambda: self.at,
                reuse_dataset=reuse,
            )
            for part in self.parts(manifest)
        ]

    def classify(self, shards: Sequence[str], review_below: float = 0.9) -> list[str]:
        """Classify every image shard; returns the prediction shards."""
        return [
            classify(uri, objects=self.objects, load=self.load, review_below=review_below) for uri in shards
        ]

    def assess(self, manifest: str, predictions: Sequence[str], budget: FailureBudget | None = None) -> str:
        """Assess; returns the assessment."""
        return assess(manifest, predictions, objects=self.objects, runs=self.runs, budget=budget)

    def publish(self, predictions: Sequence[str], assessment: str) -> list[str]:
        """Publish every prediction shard; returns the outcome shards."""
        return [publish(uri, assessment, records=self.records, objects=self.objects) for uri in predictions]

    def reconcile(self, manifest: str, outcomes: Sequence[str]) -> Ledger:
        """Draw up the ledger."""
        return reconcile(
            manifest,
            outcomes,
            records=self.records,
            objects=self.objects,
            runs=self.runs,
            now=lambda: self.at,
        )

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

    def outcomes(self, shards: Sequence[str]) -> dict[str, Row]:
        """The rows of outcome shards by record id."""
        rows = [row for uri in shards for row in shard_rows(self.objects, "outcomes", uri)]
        return {str(row["record_id"]): row for row in rows}

    # --- training

    def dataset(self, run: str = "train/run", reuse: str | None = None, **selection: object) -> str:
        """A data set of all labelled records; returns its manifest's URI."""
        manifest = self.snapshot(run, labelled=True, **selection)
        shards = self.fetch(manifest, reuse)
        return build_dataset(
            manifest, shards, records=self.records, objects=self.objects, datasets=self.datasets
        )

    def train(self, dataset: str, **config: object) -> str:
        """Train; returns the training's URI."""
        chosen = TrainingConfig.model_validate(config)
        return train(dataset, objects=self.objects, config=chosen, device="cpu")

    def evaluate(self, training: str) -> str:
        """Evaluate; returns the evaluation's URI."""
        return evaluate(training, objects=self.objects, models=self.models, model_name=MODEL, load=self.load)

    def release(self, evaluation: str, gate: Gate = LENIENT) -> Verdict:
        """Register what was evaluated, as a candidate."""
        return release(
            evaluation,
            objects=self.objects,
            models=self.models,
            model_name=MODEL,
            gate=gate,
            now=lambda: self.at,
        )

    def promote(self, evaluation: str, gate: Gate = LENIENT) -> Verdict:
        """Release, and promote where the gate allows it."""
        verdict = self.release(evaluation, gate)
        return promote_candidate(verdict, models=self.models, who="the tests", at=self.at)


@dataclass(frozen=True)
class Trained:
    """A pipeline that holds a training, and the URIs of what it made.

    Attributes:
        pipeline: nobody changes it; tests take copies.
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

    def outcome_of(self, record_id: str) -> Row:
        """Publish, and say what became of one record, named by its canonical Extended JSON."""
        return self.pipeline.outcomes(self.publish())[record_id]
