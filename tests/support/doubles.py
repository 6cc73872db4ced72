"""Every port of a pipeline, in memory unless a test gives another."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mnist_ops.adapters.memory.images import InMemoryImages
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.record_index import InMemoryRecordIndex
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.memory.registries import InMemoryDatasets, InMemoryModels, InMemoryRuns
from mnist_ops.adapters.memory.reviews import InMemoryAudits, InMemoryReviews
from mnist_ops.domain.ports import (
    DatasetRegistry,
    ImageFetcher,
    ModelRegistry,
    ObjectStore,
    RecordIndex,
    RecordStore,
    RunStore,
)
from mnist_ops.domain.review_ports import AuditStore, ReviewStore
from mnist_ops.settings import Settings
from mnist_ops.steps.artifacts.bundles import Classifier, Load


def _refuse(folder: Path, digest: str) -> Classifier:
    raise AssertionError(f"nothing should load a bundle, and {digest} is loaded from {folder}")


@dataclass(frozen=True)
class Doubles:
    """Implements `mnist_ops.pipeline.Ports`.

    Attributes:
        settings: of the deployment.
        fetcher: has the images behind the records' URLs.
        load: loads a bundle.
    """

    settings: Settings = field(default_factory=Settings)
    records: RecordStore = field(default_factory=InMemoryRecords)
    objects: ObjectStore = field(default_factory=InMemoryObjects)
    runs: RunStore = field(default_factory=InMemoryRuns)
    models: ModelRegistry = field(default_factory=InMemoryModels)
    datasets: DatasetRegistry = field(default_factory=InMemoryDatasets)
    reviews: ReviewStore = field(default_factory=InMemoryReviews)
    audits: AuditStore = field(default_factory=InMemoryAudits)
    fetcher: ImageFetcher = field(default_factory=InMemoryImages)
    load: Load = _refuse

    @property
    def record_index(self) -> RecordIndex:
        """What pages ask of the records."""
        assert isinstance(self.records, InMemoryRecords)
        return InMemoryRecordIndex(self.records)

    @contextmanager
    def images(self) -> Iterator[ImageFetcher]:
        """The images."""
        yield self.fetcher

    def load_classifier(self, folder: Path, digest: str) -> Classifier:
        """Load a bundle."""
        return self.load(folder, digest)
