"""Whole runs of the real steps over any stores, with a model that always says seven."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from mnist_ops.adapters.memory.images import InMemoryImages
from mnist_ops.adapters.memory.registries import InMemoryDatasets, InMemoryModels, InMemoryRuns
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.keys import Generation, part_reference, sha256_hex
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.domain.ports import DatasetRegistry, ObjectStore, RecordStore, RunStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.local import sample_digits
from mnist_ops.pipeline import Pipeline
from mnist_ops.settings import Settings
from mnist_ops.steps.artifacts.bundles import Classifier
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.vision.inference.classifier import Predictions
from tests.support.doubles import Doubles
from tests.support.pipeline_in_memory import build_small_dataset

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
MODEL = "lenet5"
_SEVEN = np.eye(10, dtype=np.float32)[7]


class Seven:
    """A model that takes every picture for a seven."""

    labels = DIGITS.names
    device = "cpu"

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Certainty, N times."""
        return np.tile(_SEVEN, (len(images), 1))

    def predict(self, images: NDArray[np.uint8]) -> Predictions:
        """And every picture is a digit."""
        nothing = np.zeros(len(images), np.float32)
        return Predictions(self.probabilities(images), nothing, nothing > 0)


@dataclass
class SmallRuns:
    """The ports of a small deployment, and the steps over them.

    Attributes:
        objects: where everything is stored; the bundle is put there at once.
        records: the records.
        runs: commits and ledgers.
        datasets: knows the data sets.
        images: what is behind the records' URLs.
        models: has one champion.
        aside: the same objects by another client, for what is no step's own request.
        model: classifies the images.
    """

    objects: ObjectStore
    records: RecordStore
    runs: RunStore = field(default_factory=InMemoryRuns)
    datasets: DatasetRegistry = field(default_factory=InMemoryDatasets)
    images: InMemoryImages = field(default_factory=InMemoryImages)
    models: InMemoryModels = field(default_factory=InMemoryModels)
    aside: ObjectStore | None = None
    model: Classifier = field(default_factory=Seven)

    def __post_init__(self) -> None:
        weights = b"seven"
        card = json.dumps({"files": {"weights.safetensors": sha256_hex(weights)}}).encode()
        folder = f"models/{MODEL}/000001-{sha256_hex(card)}"
        self.objects.put_bytes(f"{folder}/weights.safetensors", weights)
        self.objects.put_bytes(f"{folder}/card.json", card)
        bundle = BundleRef(MODEL, 1, self.objects.uri(folder), f"sha256:{sha256_hex(card)}")
        self.models.promote(bundle, None, Promotion(AT, "ada", "the first"))

    def document(self, number: int, **other: object) -> dict[str, object]:
        """A record of a sample digit, with the image behind its URL."""
        url = f"https://images.example/{number}.png"
        digits, _ = sample_digits.load("test")
        self.images.images[url] = sample_digits.png(digits[number])
        return {"_id": number, "image_url": url, "created_at": datetime(2026, 1, 30, tzinfo=UTC), **other}

    def steps(self, **settings: object) -> Pipeline:
        """The product's own pipeline over these ports, with some settings."""
        ports = Doubles(
            settings=Settings().model_copy(update=settings),
            records=self.records,
            objects=self.objects,
            runs=self.runs,
            models=self.models,
            datasets=self.datasets,
            fetcher=self.images,
            load=lambda folder, digest: self.model,  # noqa: ARG005 (what `classify` asks for)
        )
        # Unlike the bytes and, to the millisecond, the times, this is another in every attempt.
        return Pipeline(ports, now=lambda: datetime.now(UTC))

    def snapshot(self, generation: Generation, records_per_part: int = 4, **selection: object) -> str:
        """Take a snapshot by an attempt of its own; returns the manifest's URI."""
        return self.steps(records_per_part=records_per_part).snapshot(generation, Selection(AT, **selection))

    def fetch(self, manifest: str, reuse: str | None = None) -> list[str]:
        """Fetch every part; returns the image shards."""
        parts = read_manifest(self.aside or self.objects, manifest).parts
        references = [part_reference(manifest, part.number) for part in parts]
        return [self.steps().fetch(part, reuse_dataset=reuse) for part in references]

    def classify(self, images: Sequence[str]) -> list[str]:
        """Classify every image shard; returns the prediction shards."""
        return [self.steps().classify(uri) for uri in images]

    def publish(self, manifest: str, predictions: Sequence[str]) -> list[str]:
        """Assess and publish; returns the outcome shards."""
        steps = self.steps()
        assessment = steps.assess(manifest, predictions)
        return [steps.publish(uri, assessment) for uri in predictions]

    def reconcile(self, manifest: str, outcomes: Sequence[str]) -> Ledger:
        """Write the ledger."""
        return self.steps().reconcile(manifest, outcomes)

    def run(self, generation: Generation, **selection: object) -> Ledger:
        """The whole pipeline, once."""
        manifest = self.snapshot(generation, **selection)
        return self.reconcile(manifest, self.publish(manifest, self.classify(self.fetch(manifest))))

    def dataset(self, generation: Generation, reuse: str | None = None) -> str:
        """A data set of all labelled records; returns its manifest's URI."""
        manifest = self.snapshot(generation, labelled=True)
        return build_small_dataset(self.steps(), manifest, self.fetch(manifest, reuse))


EVERYTHING_AGAIN = {"reclassify": Reclassify.ALL}
