"""Settings and connections are read once, and what is wrong with them is said by name."""

import json
import os
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.records import FieldNames
from mnist_ops.domain.retention import Retention
from mnist_ops.settings import Settings, connection, settings_of

SECRET = "canary-4f9c"


def write_stack(folder: Path, connections: object = None, settings: object = None) -> Path:
    """Write what the running embedded stack leaves for its clients."""
    document = {"connections": connections or {}, "settings": settings or {}}
    (folder / "stack.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


# --- settings


def test_the_defaults_are_sound() -> None:
    """Nothing needs to be set."""
    settings = Settings()
    assert settings.fields == FieldNames()
    assert (settings.budget.share, settings.budget.minimum_records) == (0.2, 50)
    assert settings.allowed_hosts == frozenset()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_BUCKET", "x"),
        ("S3_PREFIX", "/absolute"),
        ("S3_PREFIX", "a//b"),
        ("MONGO_DATABASE", "a.b"),
        ("MONGO_COLLECTION", "$cmd"),
        ("IMAGE_URL_FIELD", "a..b"),
        ("IMAGE_URL_FIELD", "$where"),
        ("PREDICTION_FIELD", "a.b"),
        ("MODEL_NAME", "../other"),
        ("RECORDS_PER_PART", "0"),
        ("RECORDS_PER_PART", "many"),
        ("ALLOWED_HOSTS", "images.internal"),
        ("ALLOWED_HOSTS", "images.internal:http"),
        ("FETCH_TIMEOUT_S", "0"),
        ("FETCH_TIMEOUT_S", "nan"),
        ("FETCH_MAX_BYTES", "-1"),
        ("FETCH_CONCURRENCY", "100000"),
        ("REVIEW_BELOW", "1.5"),
        ("REVIEW_BELOW", "nan"),
        ("FAILURE_BUDGET", "20"),
        ("DEVICE", "tpu"),
        ("THREADS", "0"),
        ("MINIMUM_ACCURACY", "-0.1"),
        ("GATE_SIGNIFICANCE", "0"),
        ("GATE_MAXIMUM_ECE", "nan"),
        ("PRICE_CURRENCY", "dollars"),
        ("PRICE_S3_WRITES", "-1"),
        ("PRICE_CPU_HOUR", "inf"),
        ("PRICE_GPU_HOUR", "nan"),
        ("RETENTION_DAYS", "0"),
        ("RETENTION_GRACE_DAYS", "0"),
    ],
)
def test_a_wrong_value_names_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The command line makes the variable's name of it."""
    monkeypatch.setenv(f"MNIST_OPS_{name}", value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert {str(problem["loc"][0]) for problem in raised.value.errors()} == {name.lower()}


@pytest.mark.parametrize(
    "uri",
    [
        f"https://ada:{SECRET}@mlflow.internal/",
        f"https://{SECRET}@mlflow.internal",
        f"https://ada:{SECRET}/unencoded@mlflow.internal",
        f"https://ada:[{SECRET}@mlflow.internal",
    ],
)
def test_an_mlflow_address_with_a_password_is_refused_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """MLflow's own errors would quote it into the log of a training."""
    monkeypatch.setenv("MNIST_OPS_MLFLOW_TRACKING_URI", uri)
    with pytest.raises(
        ValidationError, match=r"MNIST_OPS_MLFLOW_TRACKING_URI .*MLFLOW_TRACKING_PASSWORD"
    ) as e:
        Settings()
    assert SECRET not in "".join(traceback.format_exception(e.value))
    monkeypatch.setenv("MNIST_OPS_MLFLOW_TRACKING_URI", "https://mlflow.internal/")
    assert Settings().mlflow_tracking_uri == "https://mlflow.internal/"


def test_prices_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pays something else says so; the rest stays as listed."""
    monkeypatch.setenv("MNIST_OPS_PRICE_CURRENCY", "EUR")
    monkeypatch.setenv("MNIST_OPS_PRICE_CPU_HOUR", "0.25")
    assert Settings().prices == Prices(currency="EUR", cpu_hour=0.25)


def test_retention_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In days."""
    assert Settings().retention == Retention()
    monkeypatch.setenv("MNIST_OPS_RETENTION_DAYS", "7")
    assert Settings().retention.older_than == timedelta(days=7)


@pytest.mark.parametrize("prefix", ["..", "a/../b", "."])
def test_a_prefix_does_not_climb(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """Keys stay under the prefix, also where a tool copies them into a file system."""
    monkeypatch.setenv("MNIST_OPS_S3_PREFIX", prefix)
    with pytest.raises(ValidationError):
        Settings()


def test_hosts_are_a_list_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Separated by commas, with spaces where people put them."""
    monkeypatch.setenv("MNIST_OPS_ALLOWED_HOSTS", "Images.Internal:8080, 127.0.0.1:8334,,[::1]:80")
    assert Settings().allowed_hosts == {"images.internal:8080", "127.0.0.1:8334", "[::1]:80"}


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Compose files set what is not set."""
    monkeypatch.setenv("MNIST_OPS_RECORDS_PER_PART", "")
    assert Settings().records_per_part == 20_000


def test_field_names_can_be_dotted_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's records are nested as they are."""
    monkeypatch.setenv("MNIST_OPS_IMAGE_URL_FIELD", "picture.url")
    assert Settings().fields.image_url == "picture.url"


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    """Configuration enters once."""
    with pytest.raises(ValidationError):
        Settings().device = "cpu"  # type: ignore[misc]


def test_the_running_stacks_settings_lie_below_the_environments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a person set stands; the rest is the stack's."""
    write_stack(
        tmp_path, settings={"MNIST_OPS_ALLOWED_HOSTS": "127.0.0.1:8334", "MNIST_OPS_REVIEW_BELOW": "0.5"}
    )
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("MNIST_OPS_REVIEW_BELOW", "0.7")
    settings = settings_of(os.environ)
    assert settings.allowed_hosts == {"127.0.0.1:8334"}
    assert settings.review_below == 0.7


def test_a_deployment_of_its_own_has_nothing_of_the_stacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stack that runs beside it allows no hosts in it."""
    write_stack(tmp_path, settings={"MNIST_OPS_ALLOWED_HOSTS": "127.0.0.1:8334"})
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", "mongodb://db.internal")
    assert settings_of(os.environ).allowed_hosts == frozenset()


# --- connections


def read(text: str, tmp_path: Path) -> Connection:
    """Read a connection from its variable."""
    return connection("mongo_default", {"AIRFLOW_CONN_MONGO_DEFAULT": text}, tmp_path)


EXPECTED = Connection("db.internal", 27018, "mnist", "ada", SECRET, {"tls": "true"})


def test_a_connection_is_read_from_json(tmp_path: Path) -> None:
    """As Airflow writes it, its extra an object or JSON in a string."""
    values = {
        "conn_type": "mongo",
        "host": "db.internal",
        "port": 27018,
        "schema": "mnist",
        "login": "ada",
        "password": SECRET,
    }
    assert read(json.dumps(values | {"extra": {"tls": "true"}}), tmp_path) == EXPECTED
    assert read(json.dumps(values | {"extra": '{"tls": "true"}', "port": "27018"}), tmp_path) == EXPECTED


def test_a_connection_is_read_from_a_uri(tmp_path: Path) -> None:
    """As Airflow writes it."""
    assert read(f"mongo://ada:{SECRET}@db.internal:27018/mnist?tls=true", tmp_path) == EXPECTED


def test_what_is_encoded_in_a_uri_is_decoded(tmp_path: Path) -> None:
    """Secret keys have slashes and plus signs."""
    where = read(
        "aws://key%2Fid:p%40ss%2F%2B@/?region_name=us-east-1&endpoint_url=http%3A%2F%2Fs3%3A8333", tmp_path
    )
    assert (where.login, where.password, where.host) == ("key/id", "p@ss/+", None)
    assert where.extra == {"region_name": "us-east-1", "endpoint_url": "http://s3:8333"}


def test_a_uris_nested_extra_is_read_as_airflow_reads_it(tmp_path: Path) -> None:
    """Airflow puts what is no flat list of strings into `__extra__`."""
    where = read(
        "aws://id:key@/?__extra__=%7B%22config_kwargs%22%3A+%7B%22s3%22%3A+%7B%22addressing_style%22"
        "%3A+%22path%22%7D%7D%7D",
        tmp_path,
    )
    assert where.extra == {"config_kwargs": {"s3": {"addressing_style": "path"}}}


@pytest.mark.parametrize(
    "uri",
    [
        "mongo://ada:pw@db.internal:27018/mnist?tls=true",
        "mongo://db.internal",
        "aws://id:key@",
        "aws://?region_name=x",
        "mongo://db.internal/?empty=",
    ],
)
def test_a_uri_means_what_it_means_to_airflow(tmp_path: Path, uri: str) -> None:
    """The DAGs and the command line read the same variables."""
    from airflow.sdk import Connection as AirflowConnection  # noqa: PLC0415 (takes seconds)

    theirs = AirflowConnection.from_uri(uri, conn_id="any")
    mine = read(uri, tmp_path)
    assert (mine.host or "", mine.port, mine.schema or "") == (
        theirs.host or "",
        theirs.port,
        theirs.schema or "",
    )
    assert (mine.login, mine.password) == (theirs.login, theirs.password)
    assert mine.extra == theirs.extra_dejson


def test_the_running_stack_answers_where_no_variable_is_set(tmp_path: Path) -> None:
    """So that a person need not copy anything."""
    write_stack(tmp_path, {"mongo_default": {"host": "127.0.0.1", "port": 27217}})
    assert connection("mongo_default", {}, tmp_path) == Connection("127.0.0.1", 27217)


def test_a_variable_comes_before_the_running_stack(tmp_path: Path) -> None:
    """What a person set stands."""
    write_stack(tmp_path, {"mongo_default": {"host": "127.0.0.1"}})
    assert read("mongo://db.internal", tmp_path).host == "db.internal"


def test_without_either_the_error_says_what_to_do(tmp_path: Path) -> None:
    """Both ways."""
    with pytest.raises(Permanent, match=r"AIRFLOW_CONN_AWS_DEFAULT.*stack up"):
        connection("aws_default", {}, tmp_path)


def test_a_connection_that_the_stack_does_not_have_is_named(tmp_path: Path) -> None:
    """An unreadable or half-written file of the stack's is an error of ours."""
    write_stack(tmp_path, {"mongo_default": {"host": "127.0.0.1"}})
    with pytest.raises(Permanent, match="other"):
        connection("other", {}, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": {}}'])
def test_a_damaged_stack_file_is_named(tmp_path: Path, text: str) -> None:
    """Such as one that a full disk cut off."""
    (tmp_path / "stack.json").write_text(text, encoding="utf-8")
    with pytest.raises(Permanent, match=r"stack\.json"):
        connection("mongo_default", {}, tmp_path)


# --- secrets


def test_a_connection_does_not_show_its_secrets() -> None:
    """Neither its password nor its extra, which may hold keys."""
    assert SECRET not in repr(Connection(password=SECRET, extra={"aws_session_token": SECRET}))
    assert SECRET not in str(Connection(password=SECRET, extra={"aws_session_token": SECRET}))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"password": "{SECRET}"',
        f'{{"password": "{SECRET}", }}',
        f'{{"password": "{SECRET}", "port": "{SECRET}"}}',
        f'{{"password": "{SECRET}", "extra": ["{SECRET}"]}}',
        f'{{"password": "{SECRET}", "extra": "{{{SECRET}"}}',
        f"mongo://ada:{SECRET}@db:port{SECRET}/",
        f"mongo://[{SECRET}",
    ],
)
def test_a_wrong_connection_names_its_variable_and_no_secret(tmp_path: Path, text: str) -> None:
    """Neither in the message nor in the traceback's errors."""
    with pytest.raises(Permanent, match="AIRFLOW_CONN_MONGO_DEFAULT") as raised:
        read(text, tmp_path)
    said = [
        line for line in traceback.format_exception(raised.value) if "Error" in line or "Permanent" in line
    ]
    assert SECRET not in str(raised.value)
    assert SECRET not in " ".join(line for line in said if not line.startswith("  File"))
