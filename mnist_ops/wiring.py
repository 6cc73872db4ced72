"""Clients and settings become adapters: the one place where they are put together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import boto3
from botocore.config import Config
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from mnist_ops.adapters.bson_documents import Document
from mnist_ops.adapters.http_images import HttpImages
from mnist_ops.adapters.mongo_records import MongoRecords
from mnist_ops.adapters.mongo_registry import MongoDatasets, MongoModels, MongoRuns
from mnist_ops.adapters.routed_images import Images
from mnist_ops.adapters.s3_images import S3Images
from mnist_ops.adapters.s3_objects import CLIENT_CONFIG, S3Objects
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.settings import Connection, Settings, connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from mnist_ops.vision.inference import Classifier


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

    @contextmanager
    def images(self) -> Iterator[Images]:
        """A fetcher of images, with the limits of the settings."""
        settings = self.settings
        policy = FetchPolicy(
            total_timeout_s=settings.fetch_timeout_s,
            max_bytes=settings.fetch_max_bytes,
            concurrency=settings.fetch_concurrency,
            allowed_hosts=settings.allowed_hosts,
            buckets=settings.image_buckets,
        )
        with HttpImages(policy) as http:
            yield Images(http, S3Images(self.s3_client, policy))

    def load_classifier(self, folder: Path, digest: str) -> "Classifier":
        """Load a bundle onto the device that the settings choose."""
        from mnist_ops.vision.inference import load_classifier

        return load_classifier(folder, digest, device=self.settings.device, threads=self.settings.threads)


def assemble(settings: Settings, mongo: MongoClient[Document], s3_client: "S3Client") -> Adapters:
    """Put the adapters of one deployment together."""
    database = mongo[settings.mongo_database]
    return Adapters(
        settings=settings,
        s3_client=s3_client,
        records=MongoRecords(database[settings.mongo_collection], settings.fields),
        runs=MongoRuns(database),
        models=MongoModels(database),
        datasets=MongoDatasets(database),
        objects=S3Objects(s3_client, settings.s3_bucket, settings.s3_prefix),
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


def mongo_client(where: Connection) -> MongoClient[Document]:
    """A client for a connection, its options as Airflow's MongoDB hook reads them.

    Raises:
        Permanent: the client refuses the connection.
    """
    options: dict[str, Any] = dict(where.extra)
    scheme = "mongodb+srv" if str(options.pop("srv", False)).lower() == "true" else "mongodb"
    if str(options.pop("allow_insecure", False)).lower() == "true":
        options["tlsAllowInvalidCertificates"] = True
    address = f"{where.host or '127.0.0.1'}" + (f":{where.port}" if where.port else "")
    if where.login and where.password:
        address = f"{quote_plus(where.login)}:{quote_plus(where.password)}@{address}"
    try:
        return MongoClient(f"{scheme}://{address}/{where.schema or ''}", **options)
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        # Not chained and not quoted: such an error may hold the password.
        names = ", ".join(sorted(options)) or "none"
        raise Permanent(
            f"mongo_default: {type(error).__name__}; its host, port or one of its options ({names}) is wrong"
        ) from None


def s3_client(where: Connection) -> "S3Client":
    """A client for a connection.

    Of its extras it knows `aws_session_token`, `region_name`, `endpoint_url` and `config_kwargs`; roles
    and profiles are for Airflow's hooks.
    """
    extra: dict[str, Any] = dict(where.extra)
    return boto3.client(
        "s3",
        aws_access_key_id=where.login,
        aws_secret_access_key=where.password,
        aws_session_token=extra.get("aws_session_token"),
        region_name=extra.get("region_name"),
        endpoint_url=extra.get("endpoint_url"),
        config=Config(**extra.get("config_kwargs", {})).merge(CLIENT_CONFIG),
    )
