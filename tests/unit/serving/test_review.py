"""The review: who gets which record, what an answer writes, and what the page shows."""

import html
import re

import pytest

from mnist_ops.domain.record_index import LabelChange
from mnist_ops.serving.access import Role
from mnist_ops.serving.queries.review import Said, next_records
from tests.support.reviewed_runs import ReviewedRuns, number_id

JSON = {"Accept": "application/json"}


@pytest.fixture
def pipeline() -> None:
    """Nothing is trained: every test brings its own steps."""


@pytest.fixture
def reviewed() -> ReviewedRuns:
    """Six records to review."""
    runs = ReviewedRuns()
    runs.run(range(6))
    return runs


def queue(reviewed: ReviewedRuns, who: str, count: int = 3) -> list[object]:
    """The ids of the records that a reviewer gets."""
    return [head.id for head in next_records(reviewed.steps, who, count)]


def shown(page: str) -> dict[str, str]:
    """The hidden fields of the form of the record that a page shows."""
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in fields}


def test_the_least_certain_records_come_first(reviewed: ReviewedRuns) -> None:
    """By confidence, ascending."""
    reviewed.set_confidence(4, 0.3)
    reviewed.set_confidence(2, 0.5)
    assert queue(reviewed, "ada") == [4, 2, 0]


def test_two_reviewers_never_get_the_same_record(reviewed: ReviewedRuns) -> None:
    """Until a lease has expired."""
    assert queue(reviewed, "ada") == [0, 1, 2]
    assert queue(reviewed, "bob") == [3, 4, 5]
    assert queue(reviewed, "eve") == []
    reviewed.clock.wait(minutes=10)
    assert queue(reviewed, "eve") == [0, 1, 2]


def test_a_skipped_record_comes_back_last_to_whoever_skipped_it(reviewed: ReviewedRuns, client) -> None:
    """Others get it at once."""
    vera = client(Role.REVIEWER, reviewed.steps)
    page = vera.post("/review/skip", data=shown(vera.get("/review").text)).text
    assert "Skipped" in page
    assert shown(page)["record"] == number_id(1)
    assert vera.post("/review/skip", data=shown(page), headers=JSON).json()["said"] == Said.SKIPPED
    assert queue(reviewed, "bob", 1) == [0]
    assert queue(reviewed, "vera", 6) == [2, 3, 4, 5, 1]


def test_the_page_shows_the_record_with_both_pictures_and_an_answer_for_each_label(
    reviewed: ReviewedRuns, client
) -> None:
    """With the keys, the prediction and why a person should look."""
    page = client(Role.REVIEWER, reviewed.steps).get("/review").text
    assert page.count('src="data:image/png;base64,') == 2
    assert "The network is not sure" in page
    buttons = re.findall(r'name="label" value="(\w+)" data-keys="(\w+)"', " ".join(page.split()))
    assert buttons[:3] == [("zero", "0"), ("one", "1"), ("two", "2")]
    assert buttons[-1] == ("seven", "Enter")
    assert '<strong id="review-left">6</strong>' in page


def test_an_answer_of_the_form_is_written_with_who_and_when(reviewed: ReviewedRuns, client) -> None:
    """And the next record is shown: no JavaScript is needed."""
    vera = client(Role.REVIEWER, reviewed.steps)
    fields = shown(vera.get("/review").text)
    page = vera.post("/review/answers", data={**fields, "label": "three"})
    assert page.history[0].status_code == 303
    assert "Saved." in page.text
    assert shown(page.text)["record"] == number_id(1)
    record = reviewed.runs.records.document(0)
    assert record["label"] == "three"
    review = record["label_review"]
    assert (review["by"], review["at"], review["confirmed"]) == ("vera", reviewed.clock.at, False)


def test_the_script_gets_the_next_records_without_those_that_it_holds(reviewed: ReviewedRuns, client) -> None:
    """Each as a piece of the page, leased to the reviewer."""
    vera = client(Role.REVIEWER, reviewed.steps)
    vera.get("/review")
    answer = vera.get("/review/next", params={"without": [number_id(0), number_id(1)]}).json()
    assert [item["record"] for item in answer["items"]] == [number_id(number) for number in (2, 3, 4, 5)]
    assert shown(answer["items"][0]["html"])["record"] == number_id(2)
    assert answer["remaining"] == "6"
    assert queue(reviewed, "bob") == [1]


def test_answers_of_the_script_are_counted(reviewed: ReviewedRuns, client) -> None:
    """With the rate from the first to the last of the last hour."""
    vera = client(Role.REVIEWER, reviewed.steps)
    for item in vera.get("/review/next").json()["items"][:3]:
        body = {"record": item["record"], "seen": item["seen"], "label": "seven"}
        answer = vera.post("/review/answers", data=body, headers=JSON).json()
        reviewed.clock.wait(seconds=12)
    assert (answer["said"], answer["answered"]) == (Said.SAVED, 3)
    assert answer["an_hour"] == pytest.approx(300)
    assert reviewed.runs.records.document(2)["label_review"]["confirmed"] is True


def test_an_answer_to_a_record_that_changed_meanwhile_writes_nothing(reviewed: ReviewedRuns, client) -> None:
    """It says so, and the next record is shown."""
    vera = client(Role.REVIEWER, reviewed.steps)
    fields = shown(vera.get("/review").text)
    head = reviewed.steps.adapters.records.heads([number_id(0)])[number_id(0)]
    reviewed.steps.adapters.record_index.set_label(LabelChange(head, "four", "bob", reviewed.clock.at))
    page = vera.post("/review/answers", data={**fields, "label": "three"}).text
    assert "Not saved: somebody labelled the record" in page
    assert shown(page)["record"] == number_id(1)
    assert reviewed.runs.records.document(0)["label"] == "four"


def test_an_answer_to_a_record_that_is_gone_says_so(reviewed: ReviewedRuns, client) -> None:
    """The website may delete records at any time."""
    vera = client(Role.REVIEWER, reviewed.steps)
    fields = shown(vera.get("/review").text)
    reviewed.runs.records.delete(0)
    assert (
        "the record no longer exists" in vera.post("/review/answers", data={**fields, "label": "three"}).text
    )


@pytest.mark.parametrize("label", ["ten", "", "SEVEN"])
def test_a_label_that_is_not_in_the_table_is_refused(reviewed: ReviewedRuns, client, label: str) -> None:
    """With the labels that are."""
    vera = client(Role.REVIEWER, reviewed.steps)
    answer = vera.post("/review/answers", data={**shown(vera.get("/review").text), "label": label})
    assert answer.status_code == 400
    assert "choose one of zero, one" in answer.json()["detail"]
    assert "label" not in reviewed.runs.records.document(0)


def test_the_last_answers_are_undone_one_after_the_other(reviewed: ReviewedRuns, client) -> None:
    """Each record comes back as it was, and is shown again."""
    vera = client(Role.REVIEWER, reviewed.steps)
    before = reviewed.runs.records.documents()
    for label in ("three", "four"):
        reviewed.clock.wait(seconds=3)
        vera.post("/review/answers", data={**shown(vera.get("/review").text), "label": label})
    assert reviewed.runs.records.document(1)["label"] == "four"
    page = vera.post("/review/undo").text
    assert shown(page)["record"] == number_id(1)
    answer = vera.post("/review/undo", headers=JSON).json()
    assert (answer["said"], answer["answered"]) == (Said.UNDONE, 0)
    assert [item["record"] for item in answer["items"]] == [number_id(0)]
    assert reviewed.runs.records.documents() == before
    assert vera.post("/review/undo", headers=JSON).json()["said"] == Said.NOTHING_TO_UNDO


def test_an_answer_that_somebody_replaced_is_not_undone(reviewed: ReviewedRuns, client) -> None:
    """The later label stays, and the answer before it can be undone next."""
    vera = client(Role.REVIEWER, reviewed.steps)
    vera.post("/review/answers", data={**shown(vera.get("/review").text), "label": "three"})
    reviewed.runs.records.insert({**reviewed.runs.records.document(0), "label": "eight"})
    assert vera.post("/review/undo", headers=JSON).json()["said"] == Said.NOT_UNDONE
    assert reviewed.runs.records.document(0)["label"] == "eight"
    assert vera.post("/review/undo", headers=JSON).json()["said"] == Said.NOTHING_TO_UNDO


def test_a_record_that_was_asked_for_is_shown_first(reviewed: ReviewedRuns, client) -> None:
    """Another page links to it."""
    page = client(Role.REVIEWER, reviewed.steps).get("/review", params={"record": number_id(4)}).text
    assert shown(page)["record"] == number_id(4)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"$regularExpression": {"pattern": "", "options": ""}}', 400),
        ('{"$oid": "x"}', 400),
        ("foo", 400),
        ('"foo"', 200),
    ],
)
def test_what_is_no_record_is_neither_leased_nor_answered(
    reviewed: ReviewedRuns, client, text: str, status: int
) -> None:
    """A lease's document is never deleted, and a condition would load the whole collection."""
    vera = client(Role.REVIEWER, reviewed.steps)
    leased = []
    reviews = reviewed.steps.adapters.reviews
    lease = reviews.lease
    reviews.lease = lambda ids, *others: leased.extend(ids) or lease(ids, *others)
    assert vera.get("/review", params={"record": text}).status_code == status
    answer = {"record": text, "seen": "", "label": "one"}
    assert vera.post("/review/answers", data=answer).status_code == status
    assert text not in leased


def test_a_confident_prediction_is_corrected_where_it_was_asked_for(reviewed: ReviewedRuns, client) -> None:
    """A model may be sure and wrong. Its record's page and its run's page link to it."""
    record = reviewed.runs.records.document(4)
    record["prediction"]["needs_review"] = False
    reviewed.runs.records.insert(record)
    vera = client(Role.REVIEWER, reviewed.steps)
    (link,) = re.findall(
        r'href="(/review\?record=[^"]*)"', vera.get("/record", params={"id": number_id(4)}).text
    )
    run = vera.get("/run", params={"run": record["prediction"]["run"]}).text
    assert link in run
    page = vera.get(html.unescape(link)).text
    assert shown(page)["record"] == number_id(4)
    assert "you asked for it" in page
    assert "Saved." in vera.post("/review/answers", data={**shown(page), "label": "three"}).text
    assert reviewed.runs.records.document(4)["label"] == "three"
    assert shown(vera.get(html.unescape(link)).text)["record"] == number_id(0)


def test_viewers_get_no_link_that_they_may_not_follow(reviewed: ReviewedRuns, client) -> None:
    """The pages of reviews are for reviewers."""
    run = reviewed.runs.records.document(4)["prediction"]["run"]
    for path, query in (("/", {}), ("/record", {"id": number_id(4)}), ("/run", {"run": run})):
        for role in (Role.VIEWER, Role.REVIEWER):
            text = client(role, reviewed.steps).get(path, params=query).text
            assert ('href="/review' in text) is (role is Role.REVIEWER), path


def test_without_anything_to_review_the_page_says_so(client) -> None:
    """And where predictions would come from."""
    page = client(Role.REVIEWER, ReviewedRuns().steps).get("/review").text
    assert "No prediction waits for you" in page
    assert "review-item" not in page


def test_an_image_that_is_not_stored_any_more_does_not_end_the_page(reviewed: ReviewedRuns, client) -> None:
    """Garbage collection deletes shards that nothing refers to."""
    objects = reviewed.runs.objects
    objects.delete(list(objects.keys("images/")))
    page = client(Role.REVIEWER, reviewed.steps).get("/review").text
    assert "is not stored any more" in page
    assert shown(page)["record"] == number_id(0)


def test_html_in_a_record_is_shown_as_text(client) -> None:
    """Its id, and the label that was predicted."""
    runs = ReviewedRuns()
    script = "<script>alert(1)</script>"
    prediction = {"label": script, "confidence": 0.1, "probabilities": {script: 0.1}, "needs_review": True}
    runs.runs.records.insert({"_id": script, "image_url": script, "prediction": prediction})
    vera = client(Role.REVIEWER, runs.steps)
    page = vera.get("/review").text
    assert shown(page)["record"] == f'"{script}"'
    assert "<script>alert" not in page
    assert "<script>alert" not in vera.get("/review/next").json()["items"][0]["html"]


def test_the_pictures_of_several_records_are_read_with_one_search_of_each_shard(
    reviewed: ReviewedRuns, client
) -> None:
    """A batch costs little more than one record, however many parts a run has."""
    objects = reviewed.runs.objects
    vera = client(Role.REVIEWER, reviewed.steps)
    before = sum(objects.requests.values())
    assert len(vera.get("/review/next").json()["items"]) == 6
    shards = len(list(objects.keys("images/")))
    assert sum(objects.requests.values()) - before <= 6 * shards + 2


def test_a_prediction_with_a_run_of_any_type_has_no_picture_and_is_reviewed(client) -> None:
    """Other programs may have written it."""
    runs = ReviewedRuns()
    prediction = {"label": "one", "confidence": 0.1, "needs_review": True, "run": [1], "generation": {"a": 1}}
    runs.runs.records.insert(
        {"_id": 1, "image_url": "https://images.example/1.png", "prediction": prediction}
    )
    assert "is not stored any more" in client(Role.REVIEWER, runs.steps).get("/review").text
