"""Connections and settings become adapters: the one place where they are put together."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ops.adapters.http.fetcher import HttpImages
from mnist_ops.adapters.image_router import ImageRouter
from mnist_ops.adapters.mongo.audits import MongoAudits
from mnist_ops.adapters.mongo.connection import Mongo, MongoDatabase, connected
from mnist_ops.adapters.mongo.record_index import MongoRecordIndex
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.adapters.mongo.registry import MongoDatasets, MongoModels, MongoRuns
from mnist_ops.adapters.mongo.reviews import MongoReviews
from mnist_ops.adapters.s3.connection import s3_client
from mnist_ops.adapters.s3.images import S3Images
from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.connections import read_connection
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from mnist_ops.vision.inference.classifier import Classifier
    from mnist_ops.vision.training.tracking import Tracker, Trackers


@dataclass(frozen=True)
class Adapters:
    """Every port, connected to its real adapter the first time it is asked for.

    Training asks for the object store alone, so a training machine needs no connection to MongoDB.

    Attributes:
        settings: bucket, database, collection and the rest.
        mongo: connects to MongoDB.
        s3: connects to S3.
    """

    settings: Settings
    mongo: Callable[[], Mongo]
    s3: Callable[[], "S3Client"]

    @cached_property
    def _database(self) -> MongoDatabase:
        return self.mongo()[self.settings.mongo_database]

    @cached_property
    def _s3_client(self) -> "S3Client":
        return self.s3()

    @cached_property
    def records(self) -> MongoRecords:
        """The user's records."""
        return MongoRecords(self._database[self.settings.mongo_collection], self.settings.fields)

    @cached_property
    def record_index(self) -> MongoRecordIndex:
        """What pages ask of the records."""
        return MongoRecordIndex(self._database[self.settings.mongo_collection], self.settings.fields)

    @cached_property
    def runs(self) -> MongoRuns:
        """Commits and ledgers."""
        return MongoRuns(self._database)

    @cached_property
    def models(self) -> MongoModels:
        """Released models."""
        return MongoModels(self._database)

    @cached_property
    def datasets(self) -> MongoDatasets:
        """Built data sets."""
        return MongoDatasets(self._database)

    @cached_property
    def reviews(self) -> MongoReviews:
        """Which reviewer holds which record, and their answers."""
        return MongoReviews(self._database)

    @cached_property
    def audits(self) -> MongoAudits:
        """Random samples of predictions that people label."""
        return MongoAudits(self._database)

    @cached_property
    def objects(self) -> S3Objects:
        """Where every object is stored."""
        return S3Objects(self._s3_client, self.settings.s3_bucket, self.settings.s3_prefix)

    @contextmanager
    def images(self) -> Iterator[ImageRouter]:
        """A fetcher of images, with the limits of the settings."""
        settings = self.settings
        policy = FetchPolicy(
            total_timeout_s=settings.fetch_timeout_s,
            max_bytes=settings.fetch_max_bytes,
            concurrency=settings.fetch_concurrency,
            allowed_hosts=settings.allowed_hosts,
            buckets=settings.image_buckets,
        )
        with closing(HttpImages(policy)) as http, closing(S3Images(self._s3_client, policy)) as s3:
            yield ImageRouter(http, s3)

    def load_classifier(self, folder: Path, digest: str) -> "Classifier":
        """Load a bundle onto the device that the settings choose."""
        from mnist_ops.vision.inference.classifier import load_classifier

        return load_classifier(folder, digest, device=self.settings.device)


def adapters_of_environment(settings: Settings, environment: Mapping[str, str]) -> Adapters:
    """The adapters that the environment's connections, or the embedded stack's, lead to."""

    def named(name: str) -> Connection:
        return read_connection(name, environment, settings.local_dir)

    return Adapters(
        settings,
        mongo=lambda: connected(named("mongo_default")),
        s3=lambda: s3_client(named("aws_default")),
    )


def tracker_of(settings: Settings) -> "Trackers":
    """The writers that the settings choose, as one.

    Raises:
        UsageError: a setting that one of them needs is missing.
        Permanent: what one of them needs is not installed.
    """
    from mnist_ops.adapters.tracking.console import ConsoleTracker
    from mnist_ops.adapters.tracking.mlflow import MlflowTracker
    from mnist_ops.adapters.tracking.sqlite import SqliteTracker
    from mnist_ops.adapters.tracking.tensorboard import TensorBoardTracker
    from mnist_ops.vision.training.tracking import Trackers

    trackers: list[Tracker] = []
    if "console" in settings.trackers:
        trackers.append(ConsoleTracker())
    if "sqlite" in settings.trackers:
        trackers.append(SqliteTracker(settings.experiments_file))
    if "tensorboard" in settings.trackers:
        trackers.append(TensorBoardTracker(settings.tensorboard_dir))
    if "mlflow" in settings.trackers:
        if settings.mlflow_tracking_uri is None:
            raise UsageError("MNIST_OPS_TRACKERS names mlflow: set MNIST_OPS_MLFLOW_TRACKING_URI")
        trackers.append(MlflowTracker(settings.mlflow_tracking_uri, group=settings.model_name))
    return Trackers(trackers)
