"""The pages in Airflow's UI: Airflow's users and connections, and what the pages may do."""

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

from mnist_airflow.pages import DAG_ID, URL_PREFIX, AirflowDeployment, pages_app
from mnist_ops.domain.errors import Transient

REPORT = f"{URL_PREFIX}/reports/1"
TRAINING_DAG_ID = "train_lenet"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def client(trained) -> Iterator[TestClient]:
    """Airflow's API server with the plugin, once a model was released."""
    assert trained.state == "success"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", secrets.token_hex(64))
        purge_cached_app()
        yield TestClient(create_app(apps="core"), raise_server_exceptions=False)
        pages_app().state.deployment.close()
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


@pytest.mark.parametrize("path", ["/", "/reports/1", "/static/app.js", "/none", "/docs", "/openapi.json"])
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
    answer = client.get(REPORT, headers=signed_in("admin"))
    assert answer.status_code == 403
    assert "read runs of classify_records" in answer.json()["detail"]
    assert asked == [("GET", DAG_ID)]


@pytest.mark.parametrize(
    ("airflows", "ours"), [("viewer", "viewer"), ("user", "reviewer"), ("op", "admin"), ("admin", "admin")]
)
def test_the_role_follows_from_what_a_user_may_do_in_airflow(client, airflows: str, ours: str) -> None:
    """Every page shows it."""
    page = client.get(f"{URL_PREFIX}/", headers=signed_in(airflows))
    assert f'vera <span class="muted">({ours})</span>' in page.text


def test_the_cookie_of_airflows_ui_signs_in(client) -> None:
    """The pages are frames of the UI."""
    token = signed_in()["Authorization"].removeprefix("Bearer ")
    answer = client.get(f"{URL_PREFIX}/", headers={**BROWSER, "Cookie": f"_token={token}"})
    assert answer.status_code == 200
    assert "vera" in answer.text


@pytest.mark.parametrize("token", ["nonsense", ""])
def test_a_token_that_is_not_airflows_signs_nobody_in(client, token: str) -> None:
    """A browser is shown where to sign in, and comes back from there."""
    answer = client.get(f"{URL_PREFIX}/runs", headers={**BROWSER, "Cookie": f"_token={token}"})
    assert answer.status_code == 401
    assert "/auth/login?next=%2Fmnist-ops%2Fruns" in answer.text


def test_a_page_of_another_site_can_send_nothing_with_the_cookie_of_an_admin(client) -> None:
    """Airflow's cookie is sent with some requests of other sites."""
    token = signed_in("admin")["Authorization"].removeprefix("Bearer ")
    headers = {"Cookie": f"_token={token}", "Origin": "https://elsewhere.example"}
    answer = client.post(f"{URL_PREFIX}/models", headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.json()["title"]


@pytest.mark.parametrize("version", ["2", "999999"])
def test_an_unknown_version_is_not_found(client, version) -> None:
    """In words."""
    answer = client.get(f"{URL_PREFIX}/reports/{version}", headers=signed_in())
    assert answer.status_code == 404
    assert f"no report of version {version}" in answer.text


@pytest.mark.parametrize("version", ["0", "-1", "one", "99999999999999999999", "..%2f..%2fcard.json"])
def test_what_is_no_version_is_refused(client, version) -> None:
    """Nothing is looked up by it."""
    assert client.get(f"{URL_PREFIX}/reports/{version}", headers=signed_in()).status_code in {404, 422}


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
        "frame-ancestors": "'self'",
        "sandbox": "",
    }
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "private, no-store"


def test_the_page_needs_nothing_that_its_policy_forbids(page) -> None:
    """No script, nothing from elsewhere: its pictures are in it."""
    assert "<script" not in page.text
    assert 'src="data:image/png;base64,' in page.text
    assert 'src="http' not in page.text


@pytest.fixture
def connected_again() -> Iterator[None]:
    """The pages read the connections at the next request, though a minute has not passed."""
    pages_app().state.deployment.close()
    yield
    pages_app().state.deployment.close()


@pytest.mark.usefixtures("connected_again")
def test_a_broken_connection_is_unavailable_and_leaves_the_api_server_up(client, monkeypatch) -> None:
    """The connection is named, and no secret of it."""
    connection = json.loads(os.environ["AIRFLOW_CONN_MONGO_DEFAULT"]) | {"password": "wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", json.dumps(connection))
    answer = client.get(REPORT, headers=signed_in())
    assert answer.status_code == 503
    assert "correct login and password of the connection" in answer.text
    assert connection["host"] not in answer.text
    assert client.get("/api/v2/version").status_code == 200


@pytest.mark.usefixtures("connected_again")
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


@pytest.mark.usefixtures("client")
def test_the_clients_are_kept_until_a_connection_changes(request, monkeypatch) -> None:
    """It is looked at once a minute."""
    at = 0.0
    deployment = AirflowDeployment(check_every_s=60, clock=lambda: at)
    request.addfinalizer(deployment.close)
    first = deployment.pipeline()
    at = 61.0
    assert deployment.pipeline() is first
    connection = json.loads(os.environ["AIRFLOW_CONN_MONGO_DEFAULT"]) | {"password": "another"}
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", json.dumps(connection))
    at = 120.0
    assert deployment.pipeline() is first
    at = 122.0
    assert deployment.pipeline() is not first


@pytest.mark.usefixtures("client")
def test_a_wrong_setting_is_an_error_that_may_pass(monkeypatch) -> None:
    """The page says so, and works again once it is corrected."""
    monkeypatch.setenv("MNIST_OPS_S3_BUCKET", "Not A Bucket")
    with pytest.raises(Transient, match="settings cannot be used"):
        AirflowDeployment().pipeline()


def test_the_task_that_released_a_model_links_to_its_report(trained) -> None:
    """By a path on the UI's host."""
    assert trained.xcoms["release", "_link_ReportLink"] == REPORT


def test_the_link_is_known_to_the_ui(dags, monkeypatch) -> None:
    """Which has the serialized DAG alone."""
    # A scheduler, which other tests start in this process, turns links off for all that it reads.
    monkeypatch.setattr(DagSerialization, "_load_operator_extra_links", True)
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dags[TRAINING_DAG_ID]))
    assert serialized.get_task("release").extra_links == ["Model report"]


@pytest.mark.parametrize("task", ["assess", "publish", "reconcile"])
def test_the_tasks_that_decide_about_a_run_link_to_its_page(dags, monkeypatch, task: str) -> None:
    """Where people are when they ask what failed."""
    monkeypatch.setattr(DagSerialization, "_load_operator_extra_links", True)
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dags[DAG_ID]))
    assert serialized.get_task(task).extra_links == ["Run page"]


def test_every_dag_run_and_task_has_a_tab_with_the_page_of_the_run(client) -> None:
    """The UI fills the ids in, percent-encoded."""
    [own] = [plugin for plugin in plugins_manager.get_plugin_info() if plugin["name"] == "mnist_ops"]
    views = {view["destination"]: view["href"] for view in own["external_views"]}
    page = f"{URL_PREFIX}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}"
    assert (views["dag_run"], views["task_instance"]) == (page, page)
    filled_in = page.replace("{DAG_ID}", DAG_ID).replace(
        "{RUN_ID}", "manual__2026-01-31T00%3A00%3A00%2B00%3A00"
    )
    answer = client.get(filled_in, headers={**BROWSER, **signed_in()})
    assert (answer.status_code, "has taken no snapshot" in answer.text) == (404, True)
