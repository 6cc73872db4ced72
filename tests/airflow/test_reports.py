"""The reports of released models in Airflow's UI: who may see them, and what the page may do."""

import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from airflow import plugins_manager
from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.serialization.serialized_objects import DagSerialization
from starlette.testclient import TestClient

from mnist_airflow.reports import DAG_ID, URL_PREFIX, reports_app

REPORT = f"{URL_PREFIX}/1"


@pytest.fixture(scope="module")
def client(trained) -> Iterator[TestClient]:
    """Airflow's API server with the plugin, once a model was released."""
    assert trained.state == "success"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", secrets.token_hex(64))
        purge_cached_app()
        yield TestClient(create_app(apps="core"), raise_server_exceptions=False)
        purge_cached_app()


def signed_in(role: str = "viewer") -> dict[str, str]:
    """The header of somebody with a role in the simple auth manager."""
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="vera", role=role))
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def page(client) -> Any:
    """The report of the first version, as somebody gets it who may only look."""
    return client.get(REPORT, headers=signed_in())


def test_somebody_signed_in_sees_the_report_of_a_version(page) -> None:
    """The page in its bundle."""
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "lenet5, version 1" in page.text


@pytest.mark.parametrize("path", ["/1", "/2", "/none", "/docs", "/openapi.json"])
def test_nobody_else_sees_anything(client, path) -> None:
    """Airflow leaves the authentication to the app, so it holds for the app as a whole."""
    assert client.get(f"{URL_PREFIX}{path}").status_code == 401


def test_who_may_not_see_the_runs_may_not_see_their_reports(client, monkeypatch) -> None:
    """Airflow's own permission decides."""
    asked = []

    def refuse(**arguments: Any) -> bool:
        asked.append((arguments["method"], arguments["details"].id))
        return False

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", refuse)
    assert client.get(REPORT, headers=signed_in()).status_code == 403
    assert asked == [("GET", DAG_ID)]


@pytest.mark.parametrize("version", ["2", "999999"])
def test_an_unknown_version_is_not_found(client, version) -> None:
    """In words."""
    answer = client.get(f"{URL_PREFIX}/{version}", headers=signed_in())
    assert answer.status_code == 404
    assert f"no report of version {version}" in answer.text


@pytest.mark.parametrize("version", ["0", "-1", "one", "99999999999999999999", "..%2f..%2fcard.json"])
def test_what_is_no_version_is_refused(client, version) -> None:
    """Nothing is looked up by it."""
    assert client.get(f"{URL_PREFIX}/{version}", headers=signed_in()).status_code in {404, 422}


def test_the_page_can_run_and_fetch_nothing(page) -> None:
    """It comes out of a bucket, and is shown at the address that people are signed in to."""
    policy = dict(
        part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "sandbox": "",
    }
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "private, no-store"


def test_the_page_needs_nothing_that_its_policy_forbids(page) -> None:
    """No script, nothing from elsewhere: its pictures are in it."""
    assert "<script" not in page.text
    assert 'src="data:image/png;base64,' in page.text
    assert 'src="http' not in page.text


def test_a_broken_connection_is_unavailable_and_leaves_the_api_server_up(client, monkeypatch) -> None:
    """Nothing about the connection is told."""
    connection = json.loads(os.environ["AIRFLOW_CONN_MONGO_DEFAULT"]) | {"password": "wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", json.dumps(connection))
    answer = client.get(REPORT, headers=signed_in())
    assert answer.status_code == 503
    assert "cannot be read at present" in answer.text
    assert "wrong" not in answer.text
    assert client.get("/api/v2/version").status_code == 200


def test_a_connection_that_is_missing_is_unavailable_too(client, monkeypatch) -> None:
    """And so is one that nobody can read."""
    monkeypatch.delenv("AIRFLOW_CONN_MONGO_DEFAULT")
    assert client.get(REPORT, headers=signed_in()).status_code == 503
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", "{")
    assert client.get(REPORT, headers=signed_in()).status_code == 503


def test_the_plugin_is_the_only_one_and_registers_one_app(client) -> None:
    """Everything else is imported when somebody asks for a page."""
    assert client
    own = [plugin for plugin in plugins_manager.get_plugin_info() if plugin["name"] == "mnist_ops"]
    assert [app["url_prefix"] for plugin in own for app in plugin["fastapi_apps"]] == [URL_PREFIX]
    assert reports_app().openapi_url is None


def test_the_task_that_released_a_model_links_to_its_report(trained) -> None:
    """By a path on the UI's host."""
    assert trained.xcoms["release", "_link_ReportLink"] == REPORT


def test_the_link_is_known_to_the_ui(dags, monkeypatch) -> None:
    """Which has the serialized DAG alone."""
    # A scheduler, which other tests start in this process, turns links off for all that it reads.
    monkeypatch.setattr(DagSerialization, "_load_operator_extra_links", True)
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dags[DAG_ID]))
    assert serialized.get_task("release").extra_links == ["Model report"]
