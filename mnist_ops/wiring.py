"""Clients and settings become adapters: the one place where they are put together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ops.adapters.http.fetcher import HttpImages
from mnist_ops.adapters.image_router import ImageRouter
from mnist_ops.adapters.mongo.connection import Mongo, mongo_client
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.adapters.mongo.registry import MongoDatasets, MongoModels, MongoRuns
from mnist_ops.adapters.s3.connection import s3_client
from mnist_ops.adapters.s3.garbage import S3GarbageStore
from mnist_ops.adapters.s3.images import S3Images
from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.settings import Settings, connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from mnist_ops.vision.inference.classifier import Classifier
    from mnist_ops.vision.training.tracking import Tracker, Trackers


@dataclass(frozen=True, slots=True)
class Adapters:
    """Every port, wired to its real adapter."""

    settings: Settings
    s3_client: "S3Client"
    records: MongoRecords
    runs: MongoRuns
    models: MongoModels
    datasets: MongoDatasets
    objects: S3Objects
    garbage: S3GarbageStore

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
        with HttpImages(policy) as http, S3Images(self.s3_client, policy) as s3:
            yield ImageRouter(http, s3)

    def load_classifier(self, folder: Path, digest: str) -> "Classifier":
        """Load a bundle onto the device that the settings choose."""
        from mnist_ops.vision.inference.classifier import load_classifier

        return load_classifier(folder, digest, device=self.settings.device)


def assemble(settings: Settings, mongo: Mongo, s3: "S3Client") -> Adapters:
    """Put the adapters of one deployment together."""
    database = mongo[settings.mongo_database]
    return Adapters(
        settings=settings,
        s3_client=s3,
        records=MongoRecords(database[settings.mongo_collection], settings.fields),
        runs=MongoRuns(database),
        models=MongoModels(database),
        datasets=MongoDatasets(database),
        objects=S3Objects(s3, settings.s3_bucket, settings.s3_prefix),
        garbage=S3GarbageStore(s3, settings.s3_bucket, settings.s3_prefix),
    )


def adapters_of_environment(settings: Settings, environment: Mapping[str, str]) -> Adapters:
    """The adapters that the environment's connections, or the embedded stack's, lead to."""
    local_dir: Path = settings.local_dir
    mongo = mongo_client(connection("mongo_default", environment, local_dir))
    return assemble(settings, mongo, s3_client(connection("aws_default", environment, local_dir)))


def objects_of_environment(settings: Settings, environment: Mapping[str, str]) -> S3Objects:
    """The object store alone, for what needs no database."""
    client = s3_client(connection("aws_default", environment, settings.local_dir))
    return S3Objects(client, settings.s3_bucket, settings.s3_prefix)


def tracker_of(settings: Settings) -> "Trackers":
    """The writers that the settings choose, as one.

    Raises:
        Permanent: what one of them needs is not installed, or not set.
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
            raise Permanent("MNIST_OPS_TRACKERS names mlflow: set MNIST_OPS_MLFLOW_TRACKING_URI")
        trackers.append(MlflowTracker(settings.mlflow_tracking_uri, group=settings.model_name))
    return Trackers(trackers)
