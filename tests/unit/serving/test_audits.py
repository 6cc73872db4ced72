"""The audit of a random sample: labelled without the prediction, counted, undone, and complete at the end."""

import pytest

from mnist_ops.domain.drawn_audits import DrawnAudit
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.selection import Reclassify
from mnist_ops.serving.access import Role
from mnist_ops.serving.queries.review import Said
from mnist_ops.steps.draw_audit import AuditRequest
from tests.support.reviewed_runs import RUN, ReviewedRuns, number_id

JSON = {"Accept": "application/json"}


@pytest.fixture
def pipeline() -> None:
    """Nothing is trained: every test brings its own steps."""


@pytest.fixture
def reviewed() -> ReviewedRuns:
    """Six predicted records."""
    runs = ReviewedRuns()
    runs.run(range(6))
    return runs


@pytest.fixture
def audit(reviewed: ReviewedRuns) -> DrawnAudit:
    """A sample of four of them."""
    return reviewed.steps.draw_audit(AuditRequest("ada", size=4, strata="none", seed=1))


def kept(reviewed: ReviewedRuns, audit: DrawnAudit) -> DrawnAudit:
    """The audit with its answers."""
    found = reviewed.steps.adapters.audits.get(audit.id)
    assert found is not None
    return found


def answer(person, audit: DrawnAudit, position: int, label: str) -> str:
    """Answer one drawn prediction; returns what is said."""
    drawn = audit.sample[position]
    body = {"record": drawn.record, "audit": audit.id, "position": position, "label": label}
    return person.post("/review/answers", data=body, headers=JSON).json()["said"]


def number_of(audit: DrawnAudit, position: int) -> int:
    """Which record of `ReviewedRuns` was drawn."""
    return next(number for number in range(6) if number_id(number) == audit.sample[position].record)


def test_the_prediction_is_not_shown_before_the_answer(reviewed, audit, client) -> None:
    """It would lead the person: each label looks like any other, and none is confirmed by Enter."""
    vera = client(Role.REVIEWER, reviewed.steps)
    pages = [vera.get("/review/audit", params={"id": audit.id}).text]
    pieces = vera.get("/review/next", params={"audit": audit.id}).json()["items"]
    assert [piece["predicted"] for piece in pieces] == [None] * 4
    for text in (*pages, *(piece["html"] for piece in pieces)):
        assert "as fetched" in text
        assert "predicted with" not in text
        assert 'class="predicted"' not in text
        assert 'data-keys="Enter"' not in text
        assert text.count("seven") == text.count("eight") > 0


def test_an_answer_counts_and_becomes_the_label_of_the_record(reviewed, audit, client) -> None:
    """With who and when."""
    vera = client(Role.REVIEWER, reviewed.steps)
    assert answer(vera, audit, 0, "three") == Said.SAVED
    found = kept(reviewed, audit)
    assert (found.answered, found.wrong, found.complete) == (1, 1, False)
    record = reviewed.runs.records.document(number_of(audit, 0))
    assert (record["label"], record["label_review"]["by"]) == ("three", "vera")


def test_an_answer_of_the_script_brings_the_result_up_to_date(reviewed, audit, client) -> None:
    """As the piece of the page that shows it."""
    body = {"record": audit.sample[2].record, "audit": audit.id, "position": 2, "label": "three"}
    vera = client(Role.REVIEWER, reviewed.steps)
    said = vera.post("/review/answers", data=body, headers=JSON).json()
    assert said["audit"] == audit.id
    assert "Not complete: 3 of 4" in said["result"]
    assert "1 of 4" in said["result"]


def test_where_no_label_fits_the_prediction_was_wrong_and_the_record_gets_no_label(
    reviewed, audit, client
) -> None:
    """What nobody can read must not be left out: the model was wrong about it too."""
    assert answer(client(Role.REVIEWER, reviewed.steps), audit, 0, "") == Said.SAVED
    assert kept(reviewed, audit).wrong == 1
    assert "label" not in reviewed.runs.records.document(number_of(audit, 0))


def test_a_record_that_was_predicted_again_counts_but_is_not_labelled(reviewed, audit, client) -> None:
    """The answer is about the image that was drawn."""
    reviewed.run((), Generation("classify_records/again"), reclassify=Reclassify.ALL)
    assert answer(client(Role.REVIEWER, reviewed.steps), audit, 0, "three") == Said.SAVED
    assert kept(reviewed, audit).wrong == 1
    assert "label" not in reviewed.runs.records.document(number_of(audit, 0))


def test_a_prediction_is_answered_once(reviewed, audit, client) -> None:
    """The second answer says that it came too late."""
    vera = client(Role.REVIEWER, reviewed.steps)
    answer(vera, audit, 0, "seven")
    assert answer(vera, audit, 0, "three") == Said.CHANGED
    assert kept(reviewed, audit).wrong == 0


def test_undo_takes_the_answer_and_the_label_back(reviewed, audit, client) -> None:
    """And shows the same image again."""
    vera = client(Role.REVIEWER, reviewed.steps)
    before = reviewed.runs.records.documents()
    for label in ("three", ""):
        answer(vera, audit, 0, label)
        undone = vera.post("/review/undo", headers=JSON).json()
        assert undone["said"] == Said.UNDONE
        assert [(item["record"], item["position"]) for item in undone["items"]] == [
            (audit.sample[0].record, 0)
        ]
        assert kept(reviewed, audit) == audit
        assert reviewed.runs.records.documents() == before
        reviewed.clock.wait(seconds=3)


def test_people_who_audit_together_get_different_images(reviewed, audit, client) -> None:
    """Also beside those who review."""
    vera = client(Role.REVIEWER, reviewed.steps)
    reviewed.steps.adapters.reviews.lease([audit.sample[0].record], "bob", reviewed.clock(), 1)
    items = vera.get("/review/next", params={"audit": audit.id}).json()["items"]
    assert [item["position"] for item in items] == [1, 2, 3]


def test_a_skipped_image_comes_back_last(reviewed, audit, client) -> None:
    """It must be answered in the end."""
    vera = client(Role.REVIEWER, reviewed.steps)
    vera.get("/review/next", params={"audit": audit.id})
    page = vera.post("/review/skip", data={"record": audit.sample[0].record, "audit": audit.id}).text
    assert "Skipped" in page
    items = vera.get("/review/next", params={"audit": audit.id}).json()["items"]
    assert [item["position"] for item in items] == [1, 2, 3, 0]


def test_the_page_says_that_an_audit_is_not_complete_and_what_it_found_when_it_is(
    reviewed, audit, client
) -> None:
    """The accuracy so far, with its interval."""
    vera = client(Role.REVIEWER, reviewed.steps)
    for position, label in enumerate(("seven", "seven", "seven", "three")):
        page = vera.get("/review/audit", params={"id": audit.id}).text
        assert f"Not complete: {4 - position} of 4" in page
        answer(vera, audit, position, label)
    page = vera.get("/review/audit", params={"id": audit.id}).text
    assert "Not complete" not in page
    assert "Every drawn prediction has an answer." in page
    assert "75.00 %" in page
    # Of six predictions four were looked at, so from one to three may be wrong.
    assert "50.00 % to 83.33 %, with 95 % confidence" in " ".join(page.split())
    assert "complete</span>" in vera.get("/review/audit").text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"position": 4, "label": "seven"}, "has no prediction 4: it has 4"),
        ({"position": 0, "label": "ten"}, "choose one of zero"),
        ({"audit": "another", "position": 0, "label": "seven"}, "no audit another"),
    ],
)
def test_an_impossible_answer_is_refused(
    reviewed, audit, client, body: dict[str, object], message: str
) -> None:
    """It says what is possible."""
    vera = client(Role.REVIEWER, reviewed.steps)
    refused = vera.post("/review/answers", data={"record": "1", "audit": audit.id, **body}, headers=JSON)
    assert refused.status_code == 400
    assert message in refused.json()["detail"]


def test_an_admin_draws_an_audit_by_the_form(reviewed, client) -> None:
    """From the run that was chosen, and it is shown."""
    admin = client(Role.ADMIN, reviewed.steps)
    assert f'<option value="{RUN.id}">' in admin.get("/review/audit").text
    page = admin.post("/review/audit/draw", data={"run": RUN.id, "size": 5, "strata": "none"})
    assert page.history[0].status_code == 303
    assert "Audit of" in page.text
    (drawn,) = reviewed.steps.adapters.audits.newest(10)
    assert (len(drawn.sample), drawn.drawn_by, drawn.runs) == (5, "vera", (RUN,))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"since": "tomorrow"}, "Finished since: &#39;tomorrow&#39; is not a point in time"),
        ({"run": "nonsense"}, "choose one of the list"),
        ({"since": "now"}, "no prediction was published by these runs"),
    ],
)
def test_a_form_that_cannot_be_drawn_from_says_why(
    reviewed, client, form: dict[str, str], message: str
) -> None:
    """As a page."""
    reviewed.clock.wait(days=1000)
    admin = client(Role.ADMIN, reviewed.steps)
    refused = admin.post("/review/audit/draw", data=form, headers={"Accept": "text/html"})
    assert refused.status_code == 400
    assert message in refused.text


def test_a_reviewer_labels_and_does_not_draw(reviewed, client) -> None:
    """The form is not shown either."""
    vera = client(Role.REVIEWER, reviewed.steps)
    assert vera.post("/review/audit/draw", data={}).status_code == 403
    page = vera.get("/review/audit").text
    assert "An admin draws one here" in page
    assert "/review/audit/draw" not in page
