"""What every page has, and how errors are told."""

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

import mnist_ops.serving
from mnist_ops.pipeline import Pipeline as Steps
from mnist_ops.serving.access import Role
from mnist_ops.serving.app import create_app
from mnist_ops.serving.static_files import digest_of
from tests.support.doubles import Doubles

TEMPLATES = sorted((Path(mnist_ops.serving.__file__).parent / "templates").glob("*.jinja"))
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def test_a_browser_gets_an_error_as_a_page_with_the_navigation(client) -> None:
    """Somebody who mistyped an address goes on from there."""
    answer = client().get("/no-such-page", headers=BROWSER)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert 'href="/runs"' in answer.text


def test_a_program_gets_an_error_as_problem_details(client) -> None:
    """RFC 9457."""
    answer = client().get("/no-such-page")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"title": "Not Found", "status": 404, "detail": "Not Found."}


def test_nobody_known_is_shown_where_to_sign_in_and_no_navigation(client) -> None:
    """The page needs no role, so it says nothing about the deployment."""
    answer = client(None).get("/", headers=BROWSER)
    assert 'href="/sign-in"' in answer.text
    assert "<nav" not in answer.text


def test_the_style_sheet_is_kept_by_browsers_until_it_changes(client) -> None:
    """Its address holds its digest."""
    answer = client().get("/static/style.css", params={"v": digest_of("style.css")})
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize("name", ["..%2fapp.py", "none.css", "%2e%2e"])
def test_no_other_file_is_served(client, name: str) -> None:
    """Only those of the folder, chosen by name."""
    assert client().get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_needs_what_the_content_policy_forbids(template: Path) -> None:
    """Neither inline scripts nor inline styles, nor a value that is not escaped."""
    text = template.read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|\|\s*safe\b|javascript:", text)


def plain_pages() -> list[str]:
    """The paths of the pages, and of what else can be asked for without saying more."""
    routes = create_app(None, None, airflow=False).routes
    return sorted({route.path for route in routes if "GET" in route.methods and "{" not in route.path})


def test_no_address_has_two_answers() -> None:
    """The second one would never be given."""
    routes = create_app(None, None, airflow=False).routes
    served = [(route.path, method) for route in routes for method in route.methods]
    assert len(served) == len(set(served))


@pytest.mark.parametrize("airflow", [False, True])
@pytest.mark.parametrize("path", plain_pages())
def test_every_page_answers_before_there_is_any_record_run_or_model(client, path: str, airflow: bool) -> None:
    """It says what there is not, or which one was not named; it never is a fault of the program."""
    steps = Steps(Doubles())
    answer = client(Role.ADMIN, steps, airflow=airflow).get(path, headers=BROWSER, follow_redirects=False)
    assert answer.status_code in {200, 303, 400, 404, 422, 503}, answer.text


def test_every_link_is_below_the_mount_point(client) -> None:
    """Airflow mounts the application."""
    outer = Starlette()
    outer.mount("/mnist-ops", client().app)
    text = TestClient(outer).get("/mnist-ops/").text
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', text)
    assert len(links) > 5
    assert [link for link in links if not link.startswith("/mnist-ops/")] == ["/sign-in"]
    assert 'href="/mnist-ops/" aria-current="page"' in text


def test_who_is_signed_in_to_airflow_is_not_asked_to_sign_in(client) -> None:
    """Another role would take another user; alone, the token gives one."""
    assert "Sign in" not in client(Role.VIEWER, airflow=True).get("/", headers=BROWSER).text
    assert "Sign in" in client(Role.VIEWER).get("/", headers=BROWSER).text
