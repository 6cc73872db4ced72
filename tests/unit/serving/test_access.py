"""What is refused: unknown users, missing roles, and requests that another site's page sends."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.testclient import TestClient

from mnist_ops.serving.access import Role
from mnist_ops.serving.app import create_app
from mnist_ops.serving.security import HEADERS, MAX_FORM

# Changes nothing: what it is asked about is in the request.
FOR_VIEWERS = {"/predict", "/batch_predict"}
HOST = "http://mnist-ops.test"


def routes() -> Iterator[tuple[str, str]]:
    """The method and an address of every route of the application."""
    for route in create_app(None, None, airflow=False).routes:
        assert isinstance(route, (APIRoute, Route)), route
        for method in (route.methods or {"GET"}) - {"HEAD"}:
            yield method, route.path_format.replace("{", "").replace("}", "")


EVERY_ROUTE = sorted(set(routes()))
WRITING = [(method, path) for method, path in EVERY_ROUTE if method != "GET" and path not in FOR_VIEWERS]


@pytest.mark.parametrize(("method", "path"), [*EVERY_ROUTE, ("GET", "/no-such-page"), ("PUT", "/")])
def test_nobody_unknown_gets_anything_from_any_route(client, method: str, path: str) -> None:
    """Not even whether there is such a page."""
    answer = client(None).request(method, path)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "Ask ada."


@pytest.mark.parametrize(("method", "path"), EVERY_ROUTE)
def test_a_known_user_without_a_role_is_refused_everywhere(client, method: str, path: str) -> None:
    """Airflow knows users who may not see the runs."""
    assert client(Role.NOBODY).request(method, path).status_code == 403


def test_a_viewer_may_not_write_on_any_route(client) -> None:
    """Whatever is not a question is refused before the request is read."""
    for method, path in WRITING:
        assert client(Role.VIEWER).request(method, path).status_code == 403, (method, path)


@pytest.mark.parametrize("path", ["/review/answers", "/run/release", "/model/promote"])
@pytest.mark.parametrize("role", [None, Role.ADMIN])
def test_a_form_is_read_up_to_a_limit(client, path: str, role: Role | None) -> None:
    """It is read before it is known who sends it; the server takes no more than that."""
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1 << 12
            yield b"a" * (1 << 12)

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client(role).post(path, content=pieces(), headers=headers)
    assert answer.status_code == (401 if role is None else 413)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_images_have_limits_of_their_own_also_where_the_application_is_mounted(client) -> None:
    """They are larger than forms; Airflow serves the application below a path."""
    airflow = FastAPI()
    airflow.mount("/mnist-ops", client(Role.VIEWER).app)
    answer = TestClient(airflow).post("/mnist-ops/predict", content=b"a" * (MAX_FORM + 1))
    assert answer.status_code != 413


def test_a_request_of_another_sites_page_is_refused_on_every_route_that_writes(client) -> None:
    """Though the browser sends the cookie of somebody who may do everything."""
    admin = client(Role.ADMIN)
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    for method, path in EVERY_ROUTE:
        answer = admin.request(method, path, headers=headers)
        if method != "GET":
            assert answer.status_code == 403, (method, path)
            assert "another site" in answer.json()["title"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": HOST},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Cookie": "session=1"},
    ],
)
def test_what_may_come_from_another_site_is_refused(client, headers: dict[str, str]) -> None:
    """Older browsers send less; a cookie with no word of where it comes from is not enough."""
    assert client(Role.ADMIN).post("/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Cookie": "session=1"},
        {"Origin": HOST, "Cookie": "session=1"},
        {"Authorization": "Bearer token", "Cookie": "session=1"},
        {},
    ],
)
def test_what_our_own_pages_and_programs_send_is_answered(client, headers: dict[str, str]) -> None:
    """There is no such method here, which says that the request got through."""
    assert client(Role.ADMIN).post("/", headers=headers).status_code == 405


@pytest.mark.parametrize("path", ["/", "/no-such-page", "/static/style.css"])
def test_every_answer_tells_the_browser_what_the_page_may_do(client, path: str) -> None:
    """Errors included."""
    answer = client().get(path)
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "no-store" in answer.headers["cache-control"]
