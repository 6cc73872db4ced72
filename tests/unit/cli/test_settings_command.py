"""`mnist-ops settings`: every setting and where it comes from, and no secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mnist_ops.cli import app
from mnist_ops.local.credentials import Credentials, load_or_create
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import Ports
from mnist_ops.local.state import describe, save
from mnist_ops.variables import known_variables

SECRET = "canary-4f9c"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The folder of the stack; nothing runs there, and no connection is set."""
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    return Layout(tmp_path)


@pytest.fixture
def running(layout: Layout) -> Credentials:
    """The secrets of a stack that runs with 2 threads on another port of MongoDB."""
    layout.make_folders(())
    credentials = load_or_create(layout)
    settings = {"MNIST_OPS_THREADS": "2", "MNIST_OPS_ALLOWED_HOSTS": "127.0.0.1:8334"}
    save(layout, describe(Ports(mongo=9027), credentials, settings))
    return credentials


def run(*options: str) -> Result:
    """Run the command in a window of 80 columns."""
    return CliRunner().invoke(app, ["settings", *options], env={"COLUMNS": "80"}, catch_exceptions=False)


def document() -> dict[str, Any]:
    """What `--json` prints."""
    printed: dict[str, Any] = json.loads(run("--json").stdout)
    return printed


@pytest.mark.usefixtures("layout")
def test_every_setting_and_port_is_listed() -> None:
    """As text and as JSON; those of Docker Compose are connections."""
    listed = known_variables() - {"MNIST_OPS_MONGO_CONN", "MNIST_OPS_AWS_CONN"}
    assert document()["settings"].keys() == listed
    lines = run().stdout.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  MNIST_OPS_")} == listed


@pytest.mark.usefixtures("running")
def test_each_value_is_shown_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, else the running stack, else the default."""
    monkeypatch.setenv("MNIST_OPS_REVIEW_BELOW", "0.50")
    settings = document()["settings"]
    assert settings["MNIST_OPS_REVIEW_BELOW"] == {"value": "0.5", "source": "environment"}
    assert settings["MNIST_OPS_THREADS"] == {"value": "2", "source": "running stack"}
    assert settings["MNIST_OPS_PORT_MONGO"] == {"value": "9027", "source": "running stack"}
    assert settings["MNIST_OPS_S3_BUCKET"] == {"value": "mnist-ops", "source": "default"}


@pytest.mark.usefixtures("running")
def test_the_settings_are_grouped_by_their_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What somebody has set comes first; lines fit, but for a path that is too long, which stays whole."""
    monkeypatch.setenv("MNIST_OPS_REVIEW_BELOW", "0.5")
    text = run().stdout
    parts = ["from the environment:", "MNIST_OPS_REVIEW_BELOW", "from the running stack:"]
    parts += ["MNIST_OPS_THREADS", "defaults:", "MNIST_OPS_S3_BUCKET", "connection mongo_default:"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert all(len(line) <= 80 for line in text.splitlines() if str(tmp_path) not in line)


@pytest.mark.usefixtures("running")
def test_a_value_that_the_running_stack_does_not_have_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not set here is no difference: the command line takes it from the stack."""
    monkeypatch.setenv("MNIST_OPS_S3_PREFIX", "a")
    [warning] = document()["warnings"]
    assert warning == (
        "MNIST_OPS_S3_PREFIX: running with its default, wanted a; "
        "to apply it: `mnist-ops stack down`, then `mnist-ops stack up`"
    )
    assert run().stderr == f"warning: {warning}\n"


@pytest.mark.usefixtures("layout")
def test_without_a_running_stack_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is in the JSON too."""
    monkeypatch.setenv("MNIST_OPS_S3_PREFIX", "a")
    assert document()["warnings"] == []
    monkeypatch.setenv("MNIST_OPS_S3_BUKET", "a")
    assert "did you mean MNIST_OPS_S3_BUCKET?" in document()["warnings"][0]


def test_the_connections_of_the_running_stack_are_shown_without_its_secrets(
    layout: Layout, running: Credentials
) -> None:
    """Neither as text nor as JSON."""
    source = str(layout.state_file)
    mongo, aws = document()["connections"].values()
    assert mongo == {"source": source, "host": "127.0.0.1", "port": "9027", "database": "mnist"}
    assert (aws["source"], aws["endpoint_url"]) == (source, "http://127.0.0.1:8333")
    assert aws["password"] == "***"
    printed = run().output + run("--json").output
    for secret in (running.s3_access_key, running.s3_secret_key, running.airflow_password):
        assert secret not in printed


@pytest.mark.usefixtures("layout")
def test_a_connection_that_is_not_set_says_what_to_set() -> None:
    """The command shows the rest, and does not fail."""
    assert "AIRFLOW_CONN_MONGO_DEFAULT" in document()["connections"]["mongo_default"]["error"]


@pytest.mark.usefixtures("layout")
def test_a_connection_of_the_environment_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Server, database, user, and the options that hold no secret."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_MONGO_DEFAULT", f"mongo://ada:{SECRET}@db:27018/admin?tls=true&x={SECRET}"
    )
    assert document()["connections"]["mongo_default"] == {
        "source": "AIRFLOW_CONN_MONGO_DEFAULT",
        "host": "db",
        "port": "27018",
        "database": "admin",
        "user": "ada",
        "password": "***",
        "tls": "true",
        "x": "***",
    }


MONGO, AWS = "MONGO_DEFAULT", "AWS_DEFAULT"
HIDING_PLACES: dict[str, tuple[str, str | dict[str, object]]] = {
    "a password": (MONGO, f"mongo://ada:{SECRET}@db/admin"),
    "an option": (MONGO, f"mongo://db/admin?tlsCertificateKeyFilePassword={SECRET}"),
    "the name of an option": (MONGO, f"mongo://db/admin?{SECRET}@db"),
    "a password with a slash": (MONGO, f"mongo://ada:1/{SECRET}@db/admin"),
    "the host": (MONGO, {"host": f"ada:{SECRET}@db"}),
    "the query of the host": (MONGO, {"host": f"db?password={SECRET}"}),
    "an option of another type": (MONGO, {"host": "db", "extra": {"authSource": {"x": SECRET}}}),
    "an access key": (AWS, {"login": f"AKIA{SECRET}"}),
    "a session token": (AWS, {"login": "AKIA1234", "extra": {"aws_session_token": SECRET}}),
    "a nested option": (AWS, {"extra": {"config_kwargs": {"proxies": {"http": f"http://a:{SECRET}@p"}}}}),
    "an endpoint": (AWS, {"extra": {"endpoint_url": f"https://ada:{SECRET}@s3:9/?token={SECRET}"}}),
    "an endpoint with a slash": (AWS, {"extra": {"endpoint_url": f"https://ada:1/{SECRET}@s3:9"}}),
    "an endpoint with a question": (AWS, {"extra": {"endpoint_url": f"https://ada:{SECRET}?1@s3:9"}}),
    "a token with an @": (AWS, {"extra": {"endpoint_url": f"https://s3:9/?token=1@{SECRET}"}}),
    "an endpoint that is none": (AWS, {"extra": {"endpoint_url": f"https://[{SECRET}@s3"}}),
}


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("place", HIDING_PLACES)
def test_a_secret_is_never_printed_wherever_it_is(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """People put them into every part of a connection."""
    name, value = HIDING_PLACES[place]
    monkeypatch.setenv(f"AIRFLOW_CONN_{name}", value if isinstance(value, str) else json.dumps(value))
    assert SECRET not in run().output + run("--json").output


@pytest.mark.usefixtures("layout")
def test_a_token_in_the_address_of_mlflow_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user and a password in it are refused."""
    monkeypatch.setenv("MNIST_OPS_MLFLOW_TRACKING_URI", f"https://mlflow.internal/api?token={SECRET}")
    assert SECRET not in run().output + run("--json").output
    assert "https://mlflow.internal/api" in run().output
