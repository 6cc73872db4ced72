"""How the parts are described, and what `up` refuses before it starts a part."""

import json
from pathlib import Path

import pytest

from mnist_ops.domain.errors import Permanent
from mnist_ops.local import airflow_server, stack
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import Ports
from mnist_ops.local.readiness import wait_until_ready
from mnist_ops.local.service import inherited_environment


@pytest.fixture
def layout(tmp_path):
    """A stack that was never started."""
    return Layout(tmp_path / "stack")


@pytest.fixture
def airflow(layout, tmp_path, monkeypatch):
    """The description of an Airflow; it need not be installed."""
    monkeypatch.setattr("mnist_ops.local.airflow_server.program", lambda name: name)
    layout.make_folders(())
    return airflow_server.service(
        layout,
        Ports(airflow=31_000),
        load_or_create(layout),
        project=airflow_server.Project(tmp_path / "dags", tmp_path / "plugins", {"MNIST_OPS_THREADS": "2"}),
        connections={"mongo_default": {"conn_type": "mongo", "port": 31_001}},
        metadata_uri="postgresql+psycopg2://here",
    )


def test_an_unknown_part_is_refused_with_the_known_ones(layout):
    """Typing errors happen."""
    with pytest.raises(Permanent, match=r"unknown parts mongodb: there are mongo, s3"):
        stack.up(layout, Ports(), mongo_answers=lambda *_: False, parts={"mongodb"})


def test_airflow_is_refused_without_a_project(layout):
    """It would have no DAGs."""
    with pytest.raises(Permanent, match="needs a project"):
        stack.up(layout, Ports(), mongo_answers=lambda *_: False, parts={"airflow"})


def test_down_on_a_stack_that_never_was_stops_nothing(layout):
    """It is no error either."""
    assert stack.down(layout) == ()


def test_status_of_a_stack_that_never_was_names_every_part(layout):
    """None of them runs."""
    states = stack.status(layout, Ports(), mongo_answers=lambda *_: False)
    assert [state.name for state in states] == list(stack.PARTS)
    assert all(state.pid is None and state.missing for state in states)


def test_airflow_listens_on_this_machine_only(airflow):
    """Its log servers, which would listen everywhere, are not started."""
    assert airflow.environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert airflow.command[1] == "standalone"
    script = Path(airflow.command[0])
    assert 'scheduler|triggerer) set -- "$@" --skip-serve-logs' in script.read_text()
    assert airflow.environment["PATH"].split(":")[0] == str(script.parent)


def test_airflow_gets_its_connections_and_the_projects_settings(airflow):
    """In the forms that Airflow and the settings read."""
    assert json.loads(airflow.environment["AIRFLOW_CONN_MONGO_DEFAULT"])["port"] == 31_001
    assert airflow.environment["MNIST_OPS_THREADS"] == "2"


def test_the_password_of_airflow_is_in_a_file_that_only_its_owner_reads(airflow, layout):
    """Airflow's simple auth manager reads it there."""
    path = layout.airflow_passwords_file
    assert airflow.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] == str(path)
    assert path.stat().st_mode & 0o077 == 0
    assert list(json.loads(path.read_text())) == ["admin"]


def test_the_users_own_airflow_and_aws_settings_do_not_reach_the_parts(monkeypatch):
    """They belong to another Airflow and another S3."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "example.com")
    environment = inherited_environment()
    assert not [name for name in environment if name.startswith(("AIRFLOW", "AWS_"))]
    assert environment["HTTP_PROXY"] == "http://proxy.example:3128"
    assert environment["NO_PROXY"] == "example.com,127.0.0.1,localhost"


def test_waiting_says_what_is_missing_whenever_that_changes():
    """A line is reported for each change only."""
    reported, answers = [], iter(["a socket", "a socket", "a bucket", None])
    wait_until_ready(
        "s3",
        lambda: next(answers),
        timeout_s=5,
        check=lambda: None,
        report_progress=reported.append,
    )
    assert reported == ["s3: waiting for a socket", "s3: waiting for a bucket"]


def test_waiting_ends_after_the_timeout():
    """The error says what was still missing."""
    with pytest.raises(Permanent, match="s3 did not answer within 0 s: still waiting for a socket"):
        wait_until_ready(
            "s3",
            lambda: "a socket",
            timeout_s=0,
            check=lambda: None,
            report_progress=lambda _: None,
        )
