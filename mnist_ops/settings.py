"""Settings from the environment, `MNIST_OPS_*`.

The command line and the operators read them once; no module below reads the environment.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mnist_ops.connections import read_stack, stack_file
from mnist_ops.domain.gate import Gate
from mnist_ops.domain.outcomes import FailureBudget
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.records import FieldNames
from mnist_ops.domain.retention import Retention
from mnist_ops.local.ports import HOST
from mnist_ops.setting_types import (
    Bucket,
    Collection,
    Currency,
    Database,
    FieldName,
    FieldPath,
    InstanceId,
    KeyPrefix,
    Share,
    Slug,
)

PREFIX = "MNIST_OPS_"

_LIST_PRICES = Prices()
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tracker = Literal["console", "tensorboard", "sqlite", "mlflow"]


class Settings(BaseSettings):
    """Every setting, with its default.

    Attributes:
        s3_bucket: the bucket of snapshots, shards, data sets and models.
        s3_prefix: the start of every key in the bucket.
        mongo_database: the database of the records and of the pipeline's own collections. The schema of
            the connection is the database that authenticates.
        mongo_collection: the collection of the records.
        image_url_field: a record's field with the URL of its image; may be a dotted path.
        created_at_field: its field with the creation time; may be a dotted path.
        label_field: its field with the human label; may be a dotted path.
        prediction_field: its field for the prediction.
        prediction_history_field: its field for former predictions.
        prediction_failure_field: its field for the last failure.
        label_review_field: its field for who corrected or confirmed the label, and when.
        model_name: the name that models are released under.
        records_per_part: how many records a part holds.
        allowed_hosts: `host:port` pairs, separated by commas, that images may be fetched from although
            their addresses are private, loopback or link-local.
        image_buckets: buckets, separated by commas, that `s3://` image URLs may name; they are read with
            the pipeline's own credentials.
        fetch_timeout_s: the longest time for one image, in seconds.
        fetch_max_bytes: the largest image, in bytes.
        fetch_concurrency: the largest number of open connections.
        classify_schedule: when `classify_records` runs, a cron expression in UTC; read by the DAG's file.
        watch: whether `classify_records` also runs when records arrive; read by the DAG's file.
        watch_interval_s: the least time between two runs that arriving records wake, in seconds.
        freshness_s: the freshness objective: 95 % of the records should have their prediction within this
            many seconds of their creation; None for no objective. A run that misses it warns, and in Airflow
            a run that takes longer alerts while it still runs; read by the DAG's file too.
        review_below: predictions with less confidence are marked for review, 0 to 1.
        failure_budget: the largest share of failed records with which a run is published, 0 to 1.
        failure_budget_from: runs of fewer records have no failure budget.
        device: auto, cpu or cuda.
        threads: how many threads decode and classify; by default one for each core.
        minimum_accuracy: the first champion needs this accuracy on its test fold, 0 to 1.
        gate_significance: McNemar's exact p of a challenger must be under this, 0 to 1.
        gate_maximum_ece: by how much a challenger's calibration error on the test fold may exceed what chance
            explains, 0 to 1.
        require_approval: whether every promotion waits for a person's approval in Airflow; without it the
            form of a run decides.
        training_instance_id: the EC2 instance that is started before a training and stopped after it; None
            where the workers of the queue `gpu` are up anyway.
        training_dir: a folder on the training machine's disk for checkpoints and tracked experiments.
        trackers: where trainings are recorded: any of console, tensorboard, sqlite and mlflow, separated
            by commas.
        mlflow_tracking_uri: the MLflow server of the tracker mlflow, without user and password.
        price_currency: the currency of all prices, an ISO 4217 code; the defaults are list prices, of the
            regions and machines in docs/retention-and-cost.md.
        price_s3_writes: for 1,000 PUT, COPY, POST and LIST requests to S3.
        price_s3_reads: for 1,000 other requests to S3; deleting is free.
        price_s3_sent: for each GiB sent to S3.
        price_s3_received: for each GiB received from S3.
        price_cpu_hour: for an hour of one busy core.
        price_gpu_hour: for an hour in which a GPU is reserved.
        retention_days: garbage of finished runs is deleted (`mnist-ops gc`) when it is older.
        retention_grace_days: garbage of runs that are not known to be finished is deleted when it is older.
        serve_token: the secret, of 16 characters or more, with which people and programs may write where
            `mnist-ops serve` runs without Airflow; without it nothing can be written there.
        serve_hosts: names, separated by commas, under which `mnist-ops serve` may be asked for besides
            localhost; requests for other names are refused.
        champion_poll_s: how often the REST API and the sketchpad look for another champion, in seconds.
        data_dir: a folder with MNIST's four files, for benchmarks on all of it.
        local_dir: where the embedded stack keeps its data, logs and process ids.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    s3_bucket: Bucket = "mnist-ops"
    s3_prefix: KeyPrefix = ""
    mongo_database: Database = "mnist"
    mongo_collection: Collection = "records"
    image_url_field: FieldPath = "image_url"
    created_at_field: FieldPath = "created_at"
    label_field: FieldPath = "label"
    prediction_field: FieldName = "prediction"
    prediction_history_field: FieldName = "prediction_history"
    prediction_failure_field: FieldName = "prediction_failure"
    label_review_field: FieldName = "label_review"
    model_name: Slug = "lenet5"
    records_per_part: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    allowed_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    image_buckets: Annotated[frozenset[str], NoDecode] = frozenset()
    fetch_timeout_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    fetch_max_bytes: Annotated[int, Field(ge=1, le=4 << 20)] = 4 << 20
    fetch_concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    classify_schedule: Annotated[str, Field(min_length=1)] = "@daily"
    watch: bool = True
    watch_interval_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    freshness_s: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    review_below: Share = 0.9
    failure_budget: Share = 0.20
    failure_budget_from: Annotated[int, Field(ge=0)] = 50
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int | None, Field(ge=1)] = None
    minimum_accuracy: Share = 0.9
    gate_significance: Annotated[float, Field(gt=0, le=1)] = 0.05
    gate_maximum_ece: Share = 0.02
    require_approval: bool = False
    training_instance_id: InstanceId | None = None
    training_dir: Path = Path(".local/training")
    trackers: Annotated[frozenset[Tracker], NoDecode] = frozenset({"tensorboard", "sqlite"})
    mlflow_tracking_uri: Annotated[str | None, Field(min_length=1)] = None
    price_currency: Currency = _LIST_PRICES.currency
    price_s3_writes: Price = _LIST_PRICES.s3_writes
    price_s3_reads: Price = _LIST_PRICES.s3_reads
    price_s3_sent: Price = _LIST_PRICES.s3_sent
    price_s3_received: Price = _LIST_PRICES.s3_received
    price_cpu_hour: Price = _LIST_PRICES.cpu_hour
    price_gpu_hour: Price = _LIST_PRICES.gpu_hour
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    retention_grace_days: Annotated[int, Field(ge=1, le=3650)] = 90
    serve_token: Annotated[SecretStr | None, Field(min_length=16)] = None
    serve_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    champion_poll_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    data_dir: Path | None = None
    local_dir: Path = Path(".local")

    @field_validator("allowed_hosts", "image_buckets", "serve_hosts", "trackers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [part.strip().lower() for part in value.split(",") if part.strip()]

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_with_ports(cls, hosts: frozenset[str]) -> frozenset[str]:
        for host in hosts:
            name, _, port = host.rpartition(":")
            if not name or not port.isdecimal():
                raise ValueError(f"{host!r}: expected host:port, such as images.internal:8080")
        return hosts

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _without_credentials(cls, uri: str | None) -> str | None:
        # Anywhere in the address: a password that is not encoded may move the @ out of the authority.
        if uri is not None and "@" in uri:
            raise ValueError(
                "MNIST_OPS_MLFLOW_TRACKING_URI must have no user and password in it (no @), since MLflow's "
                "errors quote it; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return uri

    @property
    def fields(self) -> FieldNames:
        """The names of the records' fields."""
        return FieldNames(
            image_url=self.image_url_field,
            created_at=self.created_at_field,
            label=self.label_field,
            prediction=self.prediction_field,
            prediction_history=self.prediction_history_field,
            prediction_failure=self.prediction_failure_field,
            label_review=self.label_review_field,
        )

    @property
    def gate(self) -> Gate:
        """What the gate requires of a model before it is promoted."""
        return Gate(self.gate_significance, self.gate_maximum_ece, self.minimum_accuracy)

    @property
    def experiments_file(self) -> Path:
        """The file of the tracker sqlite."""
        return self.training_dir / "experiments.sqlite"

    @property
    def tensorboard_dir(self) -> Path:
        """The folder of the tracker tensorboard, with a folder for each experiment."""
        return self.training_dir / "tensorboard"

    @property
    def prices(self) -> Prices:
        """The prices by which the cost of a run is estimated."""
        return Prices(
            currency=self.price_currency,
            s3_writes=self.price_s3_writes,
            s3_reads=self.price_s3_reads,
            s3_sent=self.price_s3_sent,
            s3_received=self.price_s3_received,
            cpu_hour=self.price_cpu_hour,
            gpu_hour=self.price_gpu_hour,
        )

    @property
    def retention(self) -> Retention:
        """How old garbage must be before it is deleted."""
        return Retention(timedelta(days=self.retention_days), timedelta(days=self.retention_grace_days))

    @property
    def budget(self) -> FailureBudget:
        """The share of a run's records that may fail."""
        return FailureBudget(self.failure_budget, self.failure_budget_from)


def variable_of(name: str) -> str:
    """The variable of a setting: `s3_bucket` gives `MNIST_OPS_S3_BUCKET`."""
    return PREFIX + name.upper()


def given_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The `MNIST_OPS_*` variables that are set, in upper case; an empty one counts as not set."""
    return {
        name.upper(): value
        for name, value in environment.items()
        if value and name.upper().startswith(PREFIX)
    }


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Read the settings of the environment.

    Where it names no connection, the settings of the running embedded stack apply too; a variable of the
    environment takes precedence over them.
    """
    settings = Settings()
    stack = stack_settings(environment, settings.local_dir)
    names = [name for name in Settings.model_fields if variable_of(name) in stack]
    return Settings(**{name: stack[variable_of(name)] for name in names})  # type: ignore[arg-type]


def stack_settings(environment: Mapping[str, str], local_dir: Path) -> dict[str, str]:
    """The settings that the running embedded stack adds to the environment's, by variable.

    There are none if no stack runs, or if the environment names a connection of its own. The stack's image
    server stays allowed where the environment allows other hosts.

    Raises:
        Permanent: the file of the stack is damaged.
    """
    stack = stack_file(local_dir)
    connections = ("AIRFLOW_CONN_MONGO_DEFAULT", "AIRFLOW_CONN_AWS_DEFAULT")
    if any(environment.get(name) for name in connections) or not stack.exists():
        return {}
    given, settings = given_variables(environment), read_stack(stack, "settings")
    added = {name: value for name, value in settings.items() if name not in given}
    hosts = variable_of("allowed_hosts")
    if hosts in given:
        added[hosts] = f"{given[hosts]},{HOST}:{read_stack(stack, 'ports').get('images', '')}"
    return added
