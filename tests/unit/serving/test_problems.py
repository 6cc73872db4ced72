"""Errors as answers."""

import pytest

from mnist_ops.domain.errors import ItemRejected, ObjectMissing, Permanent, Transient, UsageError
from mnist_ops.domain.reasons import Reason
from mnist_ops.serving.access import Role

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def failing(client):
    """A client whose every request of `/fails` ends with an error."""

    def make(error: Exception):
        made = client(Role.ADMIN)

        @made.app.api_route("/fails", methods=["GET", "POST"])
        def fails():
            raise error

        return made

    return make


@pytest.mark.parametrize(
    ("error", "read", "written"),
    [
        (Transient("mongo_default: no answer"), 503, 503),
        (UsageError("the cursor is wrong"), 400, 400),
        (ObjectMissing("no shard"), 404, 404),
        (ItemRejected(Reason.NOT_AN_IMAGE, "no image"), 422, 422),
        (Permanent("mongo_default: wrong password"), 503, 409),
    ],
)
def test_an_error_of_the_pipeline_is_told_with_what_to_do(failing, error, read: int, written: int) -> None:
    """What is refused is a conflict, unless the request only reads: then the deployment is at fault."""
    client = failing(error)
    answer = client.get("/fails")
    assert answer.status_code == read
    assert answer.json()["detail"] == str(error)
    assert client.post("/fails").status_code == written


def test_a_fault_of_the_program_tells_no_detail_and_is_a_page_for_browsers(failing) -> None:
    """The log has the traceback."""
    answer = failing(RuntimeError("a secret")).get("/fails", headers=BROWSER)
    assert answer.status_code == 500
    assert "a secret" not in answer.text
    assert "RuntimeError" in answer.text


def test_the_page_of_a_fault_has_the_security_headers_too(failing) -> None:
    """Nothing answers without them."""
    assert "content-security-policy" in failing(RuntimeError()).get("/fails").headers


def test_an_error_that_quotes_markup_shows_it_as_text(failing) -> None:
    """Messages quote what records hold."""
    text = failing(UsageError("<script>alert(1)</script>")).get("/fails", headers=BROWSER).text
    assert "&lt;script&gt;alert" in text
    assert "<script>alert" not in text
