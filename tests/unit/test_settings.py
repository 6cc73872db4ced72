"""Settings are read once, and a wrong value is reported with the name of its setting."""

import json
import os
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from mnist_ops.domain.prices import Prices
from mnist_ops.domain.records import FieldNames
from mnist_ops.domain.retention import Retention
from mnist_ops.settings import Settings, settings_of
from mnist_ops.validation import problems_of

SECRET = "canary-4f9c"


def write_stack(folder: Path, settings: dict[str, str]) -> None:
    """Write the file of a running embedded stack."""
    document = {"connections": {}, "ports": {"images": 8334}, "settings": settings}
    (folder / "stack.json").write_text(json.dumps(document), encoding="utf-8")


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
        ("MONGO_COLLECTION", "a..b"),
        ("MONGO_COLLECTION", "records."),
        ("S3_BUCKET", "my bucket"),
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
    """The command line prints it as the variable's name."""
    monkeypatch.setenv(f"MNIST_OPS_{name}", value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert {str(problem["loc"][0]) for problem in raised.value.errors()} == {name.lower()}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL_NAME", "Lenet 5", "'Lenet 5': expected lower-case letters, digits, _ and -, such as lenet5"),
        ("MONGO_DATABASE", "a.b", "'a.b': expected up to 63 letters, digits, _ and -, such as mnist"),
        ("PRICE_CURRENCY", "euro", "'euro': expected an ISO 4217 code of three capital letters, such as USD"),
        ("DEVICE", "tpu", "must be 'auto', 'cpu' or 'cuda'"),
        ("RECORDS_PER_PART", "0", "must be greater than or equal to 1"),
        ("ALLOWED_HOSTS", "images", "'images': expected host:port, such as images.internal:8080"),
    ],
)
def test_a_wrong_value_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """With an example, and without a regular expression."""
    monkeypatch.setenv(f"MNIST_OPS_{name}", value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert [problem.message for problem in problems_of(raised.value)] == [message]


@pytest.mark.parametrize("name", ["MONGO_DATABASE", "S3_BUCKET", "MODEL_NAME"])
def test_a_uri_in_the_variable_of_a_name_is_not_quoted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It may hold a password."""
    monkeypatch.setenv(f"MNIST_OPS_{name}", f"mongo://ada:{SECRET}@db")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert SECRET not in "".join(traceback.format_exception(raised.value))


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
    """A price that is not set stays the list price."""
    monkeypatch.setenv("MNIST_OPS_PRICE_CURRENCY", "EUR")
    monkeypatch.setenv("MNIST_OPS_PRICE_CPU_HOUR", "0.25")
    assert Settings().prices == Prices(currency="EUR", cpu_hour=0.25)


def test_retention_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In days."""
    assert Settings().retention == Retention()
    monkeypatch.setenv("MNIST_OPS_RETENTION_DAYS", "7")
    assert Settings().retention.older_than == timedelta(days=7)


@pytest.mark.parametrize("prefix", ["..", "a/../b", "."])
def test_a_prefix_does_not_leave_the_bucket_by_dots(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """Keys stay under the prefix, also where a tool copies them into a file system."""
    monkeypatch.setenv("MNIST_OPS_S3_PREFIX", prefix)
    with pytest.raises(ValidationError):
        Settings()


def test_hosts_are_a_list_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Separated by commas, with spaces where people put them."""
    monkeypatch.setenv("MNIST_OPS_ALLOWED_HOSTS", "Images.Internal:8080, 127.0.0.1:8334,,[::1]:80")
    assert Settings().allowed_hosts == {"images.internal:8080", "127.0.0.1:8334", "[::1]:80"}


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files set a variable that has no value to the empty text."""
    monkeypatch.setenv("MNIST_OPS_RECORDS_PER_PART", "")
    assert Settings().records_per_part == 20_000


def test_field_names_can_be_dotted_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's records may be nested."""
    monkeypatch.setenv("MNIST_OPS_IMAGE_URL_FIELD", "picture.url")
    assert Settings().fields.image_url == "picture.url"


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    """Configuration enters once."""
    with pytest.raises(ValidationError):
        Settings().device = "cpu"  # type: ignore[misc]


def test_the_environment_takes_precedence_over_the_settings_of_the_running_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The stack gives the settings that the environment does not set."""
    write_stack(tmp_path, {"MNIST_OPS_ALLOWED_HOSTS": "127.0.0.1:8334", "MNIST_OPS_REVIEW_BELOW": "0.5"})
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("MNIST_OPS_REVIEW_BELOW", "0.7")
    settings = settings_of(os.environ)
    assert settings.allowed_hosts == {"127.0.0.1:8334"}
    assert settings.review_below == 0.7


def test_a_deployment_with_its_own_connection_takes_no_settings_of_the_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stack on the same machine does not change which hosts it allows."""
    write_stack(tmp_path, {"MNIST_OPS_ALLOWED_HOSTS": "127.0.0.1:8334"})
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", "mongodb://db.internal")
    assert settings_of(os.environ).allowed_hosts == frozenset()


def test_an_empty_variable_leaves_the_setting_of_the_running_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It counts as not set, here as everywhere."""
    write_stack(tmp_path, {"MNIST_OPS_REVIEW_BELOW": "0.5"})
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("MNIST_OPS_REVIEW_BELOW", "")
    assert settings_of(os.environ).review_below == 0.5


def test_the_image_server_of_the_running_stack_stays_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its images would be blocked from the command line only, where other hosts are allowed too."""
    write_stack(tmp_path, {"MNIST_OPS_ALLOWED_HOSTS": "127.0.0.1:8334,images.internal:80"})
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("MNIST_OPS_ALLOWED_HOSTS", "images.internal:80")
    assert settings_of(os.environ).allowed_hosts == {"images.internal:80", "127.0.0.1:8334"}


def test_what_is_no_setting_in_the_file_of_the_stack_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A misspelt variable at the start of the stack does not break the command line later."""
    write_stack(tmp_path, {"MNIST_OPS_REVIEW_BELLOW": "0.5"})
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    assert settings_of(os.environ).review_below == 0.9
