"""Settings from the environment, `MNIST_OPS_*`, and connections the Airflow way.

Read once, by the command line and by the operators; nothing below them reads the environment.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.gate import Gate
from mnist_ops.domain.outcomes import FailureBudget
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.records import FieldNames
from mnist_ops.domain.retention import Retention

_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
# Segments of which none consists of dots alone.
_SEGMENT = r"[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*"
_PREFIX = rf"^({_SEGMENT}(/{_SEGMENT})*)?$"
_SLUG = r"^[a-z0-9][a-z0-9_-]*$"
_INSTANCE = r"^i-([0-9a-f]{8}|[0-9a-f]{17})$"

_LIST = Prices()
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tracker = Literal["console", "tensorboard", "sqlite", "mlflow"]


class Settings(BaseSettings):
    """What can be set, with its default.

    Attributes:
        s3_bucket: where snapshots, shards, data sets and models lie.
        s3_prefix: put before every key in it.
        mongo_database: the database of the records, and of the pipeline's own collections; the schema of
            the connection is the database that authenticates.
        mongo_collection: the collection of the records.
        image_url_field: a record's field with the URL of its image; may be a dotted path.
        created_at_field: its field with the creation time; may be a dotted path.
        label_field: its field with the human label; may be a dotted path.
        prediction_field: its field for the prediction.
        prediction_history_field: its field for former predictions.
        prediction_failure_field: its field for the last failure.
        model_name: the name that models are released under.
        records_per_part: records a part.
        allowed_hosts: `host:port` pairs, separated by commas, that images may be fetched from
            although they lie at private, loopback or link-local addresses.
        image_buckets: buckets, separated by commas, that `s3://` image URLs may name; they are read with
            the pipeline's own credentials.
        fetch_timeout_s: the longest one image may take, in seconds.
        fetch_max_bytes: the largest image, in bytes.
        fetch_concurrency: connections open at a time.
        classify_schedule: when `classify_records` is due, as cron has it (UTC); the DAG's file reads it too.
        review_below: predictions with less confidence are marked for review, 0 to 1.
        failure_budget: the largest share of failed records that is published, 0 to 1.
        failure_budget_from: runs of fewer records have no budget.
        device: auto, cpu or cuda.
        threads: to decode and classify in; None for as many as there are cores.
        minimum_accuracy: the first champion needs this accuracy on its test fold, 0 to 1.
        gate_significance: McNemar's exact p of a challenger must be under this, 0 to 1.
        gate_maximum_ece: by how much a champion's calibration error on the test fold may exceed what chance
            explains, 0 to 1.
        require_approval: whether every promotion waits for a person's approval in Airflow; without it the
            form of a run decides.
        training_instance_id: the EC2 instance that is started before a training and stopped after it; None
            where the workers of the queue `gpu` are up anyway.
        training_dir: on a disk of the training machine: checkpoints, and the experiments that are tracked.
        trackers: where trainings are noted: any of console, tensorboard, sqlite and mlflow, separated by
            commas.
        mlflow_tracking_uri: of the MLflow server, for the tracker mlflow; without user and password.
        price_currency: of all prices, a code of ISO 4217; the defaults are list prices, see docs.
        price_s3_writes: for 1,000 PUT, COPY, POST and LIST requests to S3.
        price_s3_reads: for 1,000 other requests to S3; deleting is free.
        price_s3_sent: for a GiB sent to S3.
        price_s3_received: for a GiB received from S3.
        price_cpu_hour: for an hour of one core at work.
        price_gpu_hour: for an hour in which a GPU is held.
        retention_days: garbage of finished runs is deleted (`mnist-ops gc`) when it is older.
        retention_grace_days: and that of runs which are not known to be finished, when it is older than this.
        data_dir: a folder with MNIST's four files, for benchmarks on all of it.
        local_dir: where the embedded stack keeps its data, logs and process ids.
    """

    model_config = SettingsConfigDict(
        env_prefix="MNIST_OPS_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    s3_bucket: Annotated[str, Field(min_length=3, max_length=63)] = "mnist-ops"
    s3_prefix: Annotated[str, Field(pattern=_PREFIX)] = ""
    mongo_database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")] = "mnist"
    mongo_collection: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = "records"
    image_url_field: Annotated[str, Field(pattern=_PATH)] = "image_url"
    created_at_field: Annotated[str, Field(pattern=_PATH)] = "created_at"
    label_field: Annotated[str, Field(pattern=_PATH)] = "label"
    prediction_field: Annotated[str, Field(pattern=_NAME)] = "prediction"
    prediction_history_field: Annotated[str, Field(pattern=_NAME)] = "prediction_history"
    prediction_failure_field: Annotated[str, Field(pattern=_NAME)] = "prediction_failure"
    model_name: Annotated[str, Field(pattern=_SLUG)] = "lenet5"
    records_per_part: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    allowed_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    image_buckets: Annotated[frozenset[str], NoDecode] = frozenset()
    fetch_timeout_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    fetch_max_bytes: Annotated[int, Field(ge=1, le=4 << 20)] = 4 << 20
    fetch_concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    classify_schedule: Annotated[str, Field(min_length=1)] = "@daily"
    review_below: Annotated[float, Field(ge=0, le=1)] = 0.9
    failure_budget: Annotated[float, Field(ge=0, le=1)] = 0.20
    failure_budget_from: Annotated[int, Field(ge=0)] = 50
    device: Annotated[str, Field(pattern="^(auto|cpu|cuda)$")] = "auto"
    threads: Annotated[int | None, Field(ge=1)] = None
    minimum_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.9
    gate_significance: Annotated[float, Field(gt=0, le=1)] = 0.05
    gate_maximum_ece: Annotated[float, Field(ge=0, le=1)] = 0.02
    require_approval: bool = False
    training_instance_id: Annotated[str | None, Field(pattern=_INSTANCE)] = None
    training_dir: Path = Path(".local/training")
    trackers: Annotated[frozenset[Tracker], NoDecode] = frozenset({"tensorboard", "sqlite"})
    mlflow_tracking_uri: Annotated[str | None, Field(min_length=1)] = None
    price_currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = _LIST.currency
    price_s3_writes: Price = _LIST.s3_writes
    price_s3_reads: Price = _LIST.s3_reads
    price_s3_sent: Price = _LIST.s3_sent
    price_s3_received: Price = _LIST.s3_received
    price_cpu_hour: Price = _LIST.cpu_hour
    price_gpu_hour: Price = _LIST.gpu_hour
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    retention_grace_days: Annotated[int, Field(ge=1, le=3650)] = 90
    data_dir: Path | None = None
    local_dir: Path = Path(".local")

    @field_validator("allowed_hosts", "image_buckets", "trackers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            [part.strip().lower() for part in value.split(",") if part.strip()]
            if isinstance(value, str)
            else value
        )

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
        # Wherever the @ stands: a password that was not encoded may move it out of the authority.
        if uri is not None and "@" in uri:
            raise ValueError(
                "MNIST_OPS_MLFLOW_TRACKING_URI must have no user and password in it (no @), since MLflow's "
                "errors quote it; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return uri

    @property
    def fields(self) -> FieldNames:
        """Where things stand in the records."""
        return FieldNames(
            image_url=self.image_url_field,
            created_at=self.created_at_field,
            label=self.label_field,
            prediction=self.prediction_field,
            prediction_history=self.prediction_history_field,
            prediction_failure=self.prediction_failure_field,
        )

    @property
    def gate(self) -> Gate:
        """What is asked of a model before it is promoted."""
        return Gate(self.gate_significance, self.gate_maximum_ece, self.minimum_accuracy)

    @property
    def experiments_file(self) -> Path:
        """Where the tracker sqlite notes experiments."""
        return self.training_dir / "experiments.sqlite"

    @property
    def tensorboard_dir(self) -> Path:
        """Where the tracker tensorboard writes, a folder an experiment."""
        return self.training_dir / "tensorboard"

    @property
    def prices(self) -> Prices:
        """What runs' costs are estimated by."""
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
        """How many of a run's records may fail."""
        return FailureBudget(self.failure_budget, self.failure_budget_from)


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings of the environment; where it names no connection, those of the embedded stack below."""
    settings = Settings()
    stack = settings.local_dir / "stack.json"
    named = {"AIRFLOW_CONN_MONGO_DEFAULT", "AIRFLOW_CONN_AWS_DEFAULT"} & environment.keys()
    if named or not stack.exists():
        return settings
    of_stack = _of_stack(stack, "settings")
    below = {name: value for name, value in of_stack.items() if name not in environment}
    return Settings(**{name.removeprefix("MNIST_OPS_").lower(): value for name, value in below.items()})


def connection(name: str, environment: Mapping[str, str], local_dir: Path) -> Connection:
    """Read a connection from `AIRFLOW_CONN_<NAME>`, else from the running embedded stack.

    Args:
        name: such as `mongo_default`.
        environment: the process's environment.
        local_dir: where the embedded stack lives.

    Raises:
        Permanent: there is neither, or it cannot be read.
    """
    variable = f"AIRFLOW_CONN_{name.upper()}"
    text = environment.get(variable)
    if text:
        return _parsed(text, variable)
    stack = local_dir / "stack.json"
    if not stack.exists():
        raise Permanent(
            f"no connection {name}: set {variable}, or start the embedded stack (`mnist-ops stack up`)"
        )
    found = _of_stack(stack, "connections").get(name)
    if not isinstance(found, Mapping):
        raise Permanent(f"{stack}: has no connection {name}; set {variable}, or start the stack anew")
    return _of_mapping(found, str(stack))


def _of_stack(stack: Path, name: str) -> dict[str, Any]:
    """One of the mappings in the file that the embedded stack leaves."""
    try:
        found = json.loads(stack.read_text())[name]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict):
        # The text itself is not quoted: it holds secrets.
        raise Permanent(f"{stack}: damaged, it has no {name}; start the embedded stack anew")
    return found


def _parsed(text: str, variable: str) -> Connection:
    if not text.lstrip().startswith("{"):
        return _of_uri(text, variable)
    try:
        return _of_mapping(json.loads(text), variable)
    except json.JSONDecodeError as error:
        # Not chained: the text in the error is the secret itself.
        raise Permanent(f"{variable}: not valid JSON at column {error.colno}") from None


def _of_mapping(values: Mapping[str, object], source: str) -> Connection:
    extra = values.get("extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    port = values.get("port")
    if not isinstance(extra, Mapping) or not (port is None or str(port).isdecimal()):
        raise Permanent(f"{source}: expected a number as port and an object as extra")
    texts = {name: values.get(name) for name in ("host", "schema", "login", "password")}
    return Connection(
        port=int(str(port)) if port is not None else None,
        extra=extra,
        **{name: str(value) for name, value in texts.items() if value is not None},
    )


def _of_uri(text: str, variable: str) -> Connection:
    try:
        uri = urlsplit(text)
        port = uri.port
    except ValueError:
        raise Permanent(f"{variable}: neither a JSON object nor a URI") from None
    return Connection(
        host=unquote(uri.hostname) if uri.hostname else None,
        port=port,
        schema=unquote(uri.path.strip("/")) or None,
        login=unquote(uri.username) if uri.username else None,
        password=unquote(uri.password) if uri.password else None,
        extra=_extra_of_query(uri.query, variable),
    )


def _extra_of_query(query: str, variable: str) -> Mapping[str, object]:
    """A URI's query; nested extras are one JSON text in it, as Airflow writes them."""
    extra = dict(parse_qsl(query, keep_blank_values=True))
    nested = extra.get("__extra__")
    if nested is None:
        return extra
    try:
        found = json.loads(nested)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Permanent(f"{variable}: its __extra__ is no JSON object")
    return found
