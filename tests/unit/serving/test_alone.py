"""The application without Airflow: reading needs nothing, writing the token."""

from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from mnist_ops.pipeline import Pipeline as Steps
from mnist_ops.serving.access import Admin, User
from mnist_ops.serving.alone import COOKIE, alone_app
from mnist_ops.settings import Settings
from tests.support.doubles import Doubles

AT = datetime(2026, 2, 1, 9, tzinfo=UTC)
TOKEN = "a-token-of-some-length"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


def served(
    token: str | None = TOKEN, hosts: str = "", host: str = "localhost", now: datetime = AT
) -> TestClient:
    """The application, with a route that only an admin may use and that says who it was."""
    app = alone_app(Steps(Doubles(Settings(serve_token=token, serve_hosts=hosts)), now=lambda: now))

    @app.post("/only-admins")
    def only_admins(user: Admin) -> str:
        assert isinstance(user, User)
        return user.name

    return TestClient(app, base_url=f"http://{host}:8090", follow_redirects=False)


@pytest.fixture
def alone() -> TestClient:
    """The application with a token."""
    return served()


def sign_in(client: TestClient, token: str = TOKEN, then: str = "/models", name: str = "Ada L. 1") -> str:
    """Sign in; returns where the form leads to, or the status."""
    form = {"name": name, "token": token, "then": then}
    answer = client.post("/sign-in", data=form, headers=BROWSER)
    return answer.headers.get("location", str(answer.status_code))


def test_everybody_may_read(alone) -> None:
    """The server listens on this machine only."""
    assert alone.get("/").status_code == 200


def test_nobody_may_write_without_the_token(alone) -> None:
    """The answer says how to get further."""
    answer = alone.post("/only-admins")
    assert answer.status_code == 403
    assert "Sign in with the token" in answer.json()["detail"]


def test_a_server_without_a_token_says_how_to_set_one() -> None:
    """Instead of a form that could never be filled in."""
    answer = served(token=None).post("/only-admins", headers={"Authorization": "Bearer "})
    assert answer.status_code == 401
    assert "MNIST_OPS_SERVE_TOKEN" in answer.json()["detail"]
    assert "MNIST_OPS_SERVE_TOKEN" in served(token=None).post("/only-admins").json()["detail"]


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 200), (TOKEN[:-1], 401), ("", 401)])
def test_a_program_writes_with_the_token(alone, token: str, status: int) -> None:
    """And with no other."""
    answer = alone.post("/only-admins", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status


def test_who_signed_in_writes_under_the_name_that_was_given(alone) -> None:
    """The form leads back to where the person was."""
    assert sign_in(alone) == "/models"
    answer = alone.post("/only-admins", headers=BROWSER)
    assert answer.json() == "Ada L. 1"


def test_the_cookie_holds_no_token_and_only_the_server_reads_it(alone) -> None:
    """Nor does a page of another site make the browser send it."""
    form = {"name": "ada", "token": TOKEN}
    cookie = alone.post("/sign-in", data=form, headers=BROWSER).headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_a_cookie_of_somebody_else_is_worth_nothing(alone) -> None:
    """The signature belongs to the name."""
    sign_in(alone, name="ada")
    signature = alone.cookies[COOKIE].rpartition(".")[2]
    other = served()
    end = alone.cookies[COOKIE].split(".")[1]
    other.cookies.set(COOKIE, f"grace.{end}.{signature}")
    assert other.post("/only-admins", headers=BROWSER).status_code == 403


@pytest.mark.parametrize(("hours", "later", "status"), [(11, 0, 200), (12, 0, 403), (12, 3_600, 403)])
def test_a_session_ends_after_twelve_hours(alone, hours: int, later: int, status: int) -> None:
    """Its end is signed: a browser that keeps the cookie cannot move it."""
    sign_in(alone, name="ada.1")
    name, end, signature = alone.cookies[COOKIE].rsplit(".", 2)
    other = served(now=AT + timedelta(hours=hours))
    other.cookies.set(COOKIE, f"{name}.{int(end) + later}.{signature}")
    assert other.post("/only-admins", headers=BROWSER).status_code == status


def test_who_is_signed_in_finds_the_way_out_on_every_page(alone) -> None:
    """And whoever is not, the way in."""
    assert 'action="/sign-out"' not in alone.get("/models", headers=BROWSER).text
    sign_in(alone)
    page = alone.get("/models", headers=BROWSER).text
    assert 'action="/sign-out"' in page
    assert 'href="/sign-in' not in page


@pytest.mark.parametrize("cookie", ["", ".", "ada", "ada.x", "ada.12.", "..", "ä.1.ü"])
def test_a_cookie_that_is_none_of_ours_is_no_session(cookie: str) -> None:
    """Nor a fault of the program."""
    headers = {**BROWSER, "Cookie": f"{COOKIE}={cookie}".encode("latin-1")}
    assert served().post("/only-admins", headers=headers).status_code == 403


def test_a_wrong_token_signs_nobody_in(alone) -> None:
    """The form says so."""
    assert sign_in(alone, token="something else") == "403"
    assert COOKIE not in alone.cookies


@pytest.mark.parametrize("elsewhere", ["https://other.example/", "//other.example", "/\\other.example", ""])
def test_the_form_leads_to_no_other_site(alone, elsewhere: str) -> None:
    """Whatever the address that it was opened with says."""
    assert sign_in(alone, then=elsewhere) == "/"


def test_who_signs_out_may_not_write_any_more(alone) -> None:
    """In this browser."""
    sign_in(alone)
    alone.post("/sign-out", headers=BROWSER)
    assert alone.post("/only-admins", headers=BROWSER).status_code == 403


def test_a_request_for_another_host_name_is_refused() -> None:
    """A page of another site may have made its own name lead here."""
    assert served(host="rebound.example").get("/").status_code == 400
    assert served(host="rebound.example", hosts="rebound.example").get("/").status_code == 200
