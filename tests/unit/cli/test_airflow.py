"""`mnist-ops airflow`: Airflow's own command line, with the environment of the running stack."""

import json
import os
import sys
from pathlib import Path

import pytest

from mnist_ops.cli import main
from mnist_ops.local import postgres
from mnist_ops.local.credentials import Credentials, load_or_create
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import Ports
from mnist_ops.local.state import describe, save

ARGUMENTS = ["backfill", "create", "--help", "-h", "--", "-v", "--dag-run-conf", '{"limit": 1}', "", "--"]


class Replaced(Exception):
    """The process would now be another program."""


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The folder of the stack that the command line uses; no stack runs."""
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    monkeypatch.setattr(postgres, "running_uri", lambda _: "postgresql+psycopg2://here")
    return Layout(tmp_path)


@pytest.fixture
def credentials(layout: Layout) -> Credentials:
    """The secrets of a stack that runs."""
    layout.make_folders(())
    credentials = load_or_create(layout)
    save(layout, describe(Ports(airflow=31_000), credentials, {"MNIST_OPS_THREADS": "2"}))
    return credentials


def executed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Path, list[str], dict[str, str]]:
    """Run `mnist-ops airflow` with arguments; returns program, its arguments and its environment."""
    calls = []

    def execve(program: Path, given: list[str], environment: dict[str, str]) -> None:
        calls.append((program, given, environment))
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(sys, "argv", ["mnist-ops", "airflow", *arguments])
    with pytest.raises(SystemExit):
        main()
    [call] = calls
    return call


@pytest.mark.usefixtures("credentials")
def test_every_argument_is_passed_unchanged(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also options that `mnist-ops` has itself."""
    program, arguments, _ = executed(monkeypatch, *ARGUMENTS)
    assert program == layout.airflow_program
    assert arguments == [str(program), *ARGUMENTS]


def test_airflow_gets_the_environment_of_the_running_stack(
    layout: Layout, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Home, database, key, connections, folders and settings."""
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    monkeypatch.setenv("MNIST_OPS_THREADS", "8")
    _, _, environment = executed(monkeypatch, "dags", "list")
    root = Path(__file__).parents[3]
    assert environment["AIRFLOW_HOME"] == str(layout.data("airflow"))
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql+psycopg2://here"
    assert environment["AIRFLOW__CORE__FERNET_KEY"] == credentials.airflow_fernet_key
    assert environment["AIRFLOW__CORE__DAGS_FOLDER"] == str(root / "dags")
    assert environment["AIRFLOW__CORE__PLUGINS_FOLDER"] == str(root / "plugins")
    assert environment["AIRFLOW__API__PORT"] == "31000"
    assert json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])["password"] == credentials.s3_secret_key
    assert environment["MNIST_OPS_THREADS"] == "2"


def test_no_secret_is_among_the_arguments(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of the machine can read the arguments of a process."""
    _, arguments, environment = executed(monkeypatch, "dags", "list")
    assert credentials.airflow_fernet_key in environment.values()
    assert arguments[1:] == ["dags", "list"]


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(("given", "passed"), [(None, "ignore"), ("default", "default")])
def test_warnings_are_off_unless_the_user_says_otherwise(
    given: str | None, passed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow writes them to standard output, between tables and into JSON."""
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    if given:
        monkeypatch.setenv("PYTHONWARNINGS", given)
    assert executed(monkeypatch, "dags", "list")[2]["PYTHONWARNINGS"] == passed


@pytest.mark.parametrize("running", ["nothing", "no database"])
def test_without_a_running_stack_it_says_how_to_start_one(
    layout: Layout,
    running: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, also after the stack was killed; `--help` is that of this command."""
    if running == "no database":
        request.getfixturevalue("credentials")
        monkeypatch.setattr(postgres, "running_uri", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["mnist-ops", "airflow", "--help"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert not exited.value.code
    assert "every argument is passed to it" in " ".join(capfd.readouterr().out.split())
    monkeypatch.setattr(sys, "argv", ["mnist-ops", "airflow", "dags", "--help"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    assert capfd.readouterr().err == (
        f"error: no embedded stack runs in {layout.root}: start it with `mnist-ops stack up`, "
        "or set MNIST_OPS_LOCAL_DIR to its folder\n"
    )


def test_a_database_that_does_not_run_has_no_address(tmp_path: Path) -> None:
    """Its folder may be there, or not."""
    layout = Layout(tmp_path)
    assert postgres.running_uri(layout) is None
    layout.make_folders((postgres.NAME,))
    assert postgres.running_uri(layout) is None
