"""The contract of `RecordIndex`, in memory and for MongoDB's adapter on SecantusDB."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

from mnist_ops.adapters.mongo.bson_documents import id_json
from mnist_ops.adapters.mongo.indexes import record_indexes
from mnist_ops.adapters.mongo.record_index import MongoRecordIndex
from mnist_ops.domain.cursors import ReviewCursor
from mnist_ops.domain.errors import Transient
from mnist_ops.domain.record_index import BoundedCount, LabelChange
from mnist_ops.domain.records import FieldNames, RecordHead
from mnist_ops.domain.selection import Reclassify, Selection
from tests.faults.lossy_proxy import lossy_proxy

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MANY = 1_000


def url_of(name: object) -> str:
    """The image URL of a record."""
    return f"https://images.example/{name}.png"


def waiting(name: object, age: timedelta = HOUR, **other: object) -> dict[str, object]:
    """A record that no run has tried."""
    return {"_id": name, "image_url": url_of(name), "created_at": AT - age, **other}


def failed(name: object, next_attempt_at: datetime | None = None, **other: object) -> dict[str, object]:
    """A record whose last attempt failed; for good unless another one is planned."""
    failure = {
        "reason": "not_found",
        "image_url": url_of(name),
        "attempts": 1,
        "last_at": AT - HOUR,
        "next_attempt_at": next_attempt_at,
        "permanent": next_attempt_at is None,
        "run": "dag/run",
    }
    return waiting(name, **{"prediction_failure": failure, **other})


def predicted(name: object, confidence: float, **other: object) -> dict[str, object]:
    """A record with a prediction, marked for review if its confidence is under 0.9."""
    prediction = {
        "label": "seven",
        "confidence": confidence,
        "needs_review": confidence < 0.9,
        "model": {"digest": "sha256:1"},
        "run": "dag/run",
        "generation": 0,
    }
    return waiting(name, **{"prediction": prediction, **other})


def head_of(bench, name: object) -> RecordHead:
    """What a reviewer sees of a record."""
    return bench.store.heads([id_json(name)])[id_json(name)]


# Counts


def test_waiting_is_what_the_next_scheduled_run_takes(bench):
    """Never tried, or due for another attempt; the count is that of the selection itself."""
    bench.insert(
        waiting("new"),
        waiting("old", timedelta(days=4_000)),
        waiting("undated", created_at=None),
        waiting("not yet created", -HOUR),
        waiting("labelled", label="seven"),
        failed("for good"),
        failed("due", AT),
        failed("not due", AT + HOUR),
        predicted("predicted", 0.95),
    )
    assert bench.index.waiting(AT, MANY) == BoundedCount(4)
    assert bench.store.count(Selection(AT, until=AT)) == 4


@pytest.mark.parametrize(("limit", "expected"), [(2, BoundedCount(2, more=True)), (3, BoundedCount(3))])
def test_a_count_stops_at_its_limit(bench, limit, expected):
    """And says so, unless there are exactly as many."""
    for number in range(3):
        bench.insert(waiting(f"w{number}"), predicted(f"p{number}", 0.3), failed(f"f{number}"))
    assert bench.index.waiting(AT, limit) == expected
    assert bench.index.in_review(limit) == expected
    assert bench.index.permanently_failed(AT, limit) == expected


def test_failures_that_are_retried_do_not_count_as_permanent(bench):
    """Nor does the failure of a record that has a prediction, or a label."""
    bench.insert(
        failed("for good"),
        failed("undated", created_at=None),
        failed("due", AT),
        failed("labelled", label="one"),
        {**failed("predicted"), "prediction": predicted("predicted", 0.99)["prediction"]},
    )
    assert bench.index.permanently_failed(AT, MANY) == BoundedCount(2)


def test_standing_failures_hide_no_waiting_record(bench):
    """300 records that failed for good are older than the one that waits, and its age is found."""
    bench.insert(*(failed(number, created_at=AT - HOUR * 10) for number in range(300)), waiting("new"))
    assert bench.index.waiting(AT, limit=10) == BoundedCount(1)
    assert bench.index.oldest_waiting(AT) == AT - HOUR


def test_the_oldest_waiting_record_has_a_creation_time(bench):
    """Records without one, tried ones and those of the future are left out; without others there is none."""
    bench.insert(waiting("undated", created_at=None), waiting("future", -HOUR), failed("tried", AT))
    assert bench.index.oldest_waiting(AT) is None
    bench.insert(waiting("young"), waiting("old", HOUR * 7))
    assert bench.index.oldest_waiting(AT) == AT - HOUR * 7


def test_failures_of_an_earlier_version_count_once_the_indexes_are_made(secantus):
    """They do not say whether they are permanent; until then pages take them for records never tried."""
    old = [failed("for good"), failed("to be tried again", AT + HOUR), waiting("untried")]
    for record in old[:2]:
        del record["prediction_failure"]["permanent"]
    secantus.insert(*old, failed("new"))
    assert secantus.index.waiting(AT, MANY) == BoundedCount(3)
    secantus.store.ensure_indexes()
    assert secantus.index.waiting(AT, MANY) == BoundedCount(1)
    assert secantus.index.permanently_failed(AT, MANY) == BoundedCount(2)


# Lists


def test_the_least_certain_come_first_and_in_pages(bench):
    """Every record once, also where several have the same confidence across the end of a page."""
    confidences = [0.31, 0.5, 0.5, 0.5, 0.5, 0.72, 0.899]
    bench.insert(*(predicted(f"r{number}", each) for number, each in enumerate(confidences)))
    bench.insert(predicted("labelled", 0.1, label="one"), predicted("certain", 0.95), waiting("waiting"))
    read: list[str] = []
    after = None
    while page := bench.index.least_certain(after, 2):
        read += [head.id for head in page]
        after = ReviewCursor.of(page[-1])
    assert read == [f"r{number}" for number in range(7)]


def test_a_confidence_of_one_is_in_review_too(bench):
    """A picture of no digit is marked for review however certain the class is."""
    record = predicted("blot", 1.0)
    record["prediction"]["needs_review"] = True
    bench.insert(record)
    assert bench.index.in_review(MANY) == BoundedCount(1)
    (head,) = bench.index.least_certain(None, 10)
    assert bench.index.least_certain(ReviewCursor.of(head), 10) == []


def test_records_are_found_by_their_image_url(bench):
    """Up to the limit; a URL is compared whole."""
    bench.insert(waiting(1, image_url=url_of("x")), waiting(2, image_url=url_of("x")), waiting(3))
    assert sorted(bench.index.ids_of_url(url_of("x"), 10)) == [id_json(1), id_json(2)]
    assert len(bench.index.ids_of_url(url_of("x"), 1)) == 1
    assert bench.index.ids_of_url("https://images.example/", 10) == []


# Labels


def test_a_label_is_written_with_who_when_and_what_was_predicted(bench):
    """The label is the name; `confirmed` says whether it is the predicted one."""
    bench.insert(predicted("one", 0.4), predicted("two", 0.4))
    assert bench.index.set_label(LabelChange(head_of(bench, "one"), "one", "ada", AT))
    assert bench.index.set_label(LabelChange(head_of(bench, "two"), "seven", "ada", AT))
    assert bench.document("one")["label"] == "one"
    assert bench.document("one")["label_review"] == {
        "label": "one",
        "by": "ada",
        "at": AT,
        "confirmed": False,
        "prediction": {"run": "dag/run", "generation": 0, "digest": "sha256:1"},
        "was": None,
        "was_set": False,
    }
    assert bench.document("two")["label_review"]["confirmed"]
    assert bench.index.in_review(MANY) == BoundedCount(0)


def test_texts_that_look_like_expressions_are_written_as_they_are(bench):
    """A label table, or a user's name, may have a dollar sign in it."""
    bench.insert(predicted(1, 0.4))
    assert bench.index.set_label(LabelChange(head_of(bench, 1), "$image_url", "$$ROOT", AT))
    assert bench.document(1)["label"] == "$image_url"
    assert bench.document(1)["label_review"]["by"] == "$$ROOT"
    assert bench.index.undo_label(id_json(1), "$$ROOT", AT)


RACES: dict[str, Callable[[object], object]] = {
    "labelled by the website": lambda bench: bench.edit(1, label="one"),
    "another URL": lambda bench: bench.edit(1, image_url=url_of("new")),
    "another prediction": lambda bench: bench.edit(
        1, prediction=predicted(1, 0.4)["prediction"] | {"run": "dag/later"}
    ),
    "deleted": lambda bench: bench.delete(1),
}


@pytest.mark.parametrize("race", RACES)
def test_a_label_for_a_record_that_changed_is_not_written(bench, race):
    """The reviewer has not seen it as it is now."""
    bench.insert(predicted(1, 0.4))
    seen = head_of(bench, 1)
    RACES[race](bench)
    before = bench.raw()
    assert not bench.index.set_label(LabelChange(seen, "one", "ada", AT))
    assert bench.raw() == before


@pytest.mark.parametrize("label", [{}, {"label": None}, {"label": 3}, {"label": "unreadable"}], ids=repr)
def test_undoing_a_label_restores_the_record_exactly(bench, label):
    """Also that it had none, or null."""
    bench.insert(predicted(1, 0.4, **label))
    before = bench.document(1)
    assert bench.index.set_label(LabelChange(head_of(bench, 1), "one", "ada", AT))
    assert bench.index.undo_label(id_json(1), "ada", AT)
    assert bench.document(1) == before
    assert not bench.index.undo_label(id_json(1), "ada", AT)


@pytest.mark.parametrize("path", ["human.label", "a.b.c"])
def test_a_label_may_be_in_a_nested_field(make_bench, path):
    """It is written there, found by the indexes, and taken back."""
    bench = make_bench(FieldNames(label=path))
    bench.insert(predicted(1, 0.4))
    assert bench.index.set_label(LabelChange(head_of(bench, 1), "one", "ada", AT))
    assert head_of(bench, 1).label == "one"
    assert bench.index.in_review(MANY) == BoundedCount(0)
    assert bench.index.undo_label(id_json(1), "ada", AT)
    assert head_of(bench, 1).label is None


def test_a_label_is_only_undone_as_it_was_written(bench):
    """Not by another reviewer, not another of their reviews, and not after the website changed it."""
    bench.insert(predicted(1, 0.4))
    bench.index.set_label(LabelChange(head_of(bench, 1), "one", "ada", AT))
    assert not bench.index.undo_label(id_json(1), "grace", AT)
    assert not bench.index.undo_label(id_json(1), "ada", AT + HOUR)
    bench.edit(1, label="two")
    before = bench.raw()
    assert not bench.index.undo_label(id_json(1), "ada", AT)
    assert bench.raw() == before


def test_no_run_touches_a_record_with_a_reviewers_label(bench, writer):
    """Neither a selection, whatever it reclassifies, nor a write that was on its way."""
    bench.insert(predicted(1, 0.4))
    seen = head_of(bench, 1)
    on_its_way = writer().predict(seen)
    bench.index.set_label(LabelChange(seen, "one", "ada", AT))
    counts = {each: bench.store.count(Selection(AT, reclassify=each, champion="x")) for each in Reclassify}
    assert counts == dict.fromkeys(Reclassify, 0)
    assert bench.store.apply([on_its_way]).matched == 0
    assert bench.store.count(Selection(AT, labelled=True)) == 1


# Failures


def test_a_record_whose_failure_is_cleared_waits_again(bench):
    """A permanent failure is removed whole."""
    bench.insert(failed(1))
    assert bench.index.waiting(AT, MANY) == BoundedCount(0)
    assert bench.index.clear_failure(head_of(bench, 1))
    assert "prediction_failure" not in bench.document(1)
    assert bench.index.waiting(AT, MANY) == BoundedCount(1)


def test_a_failure_that_changed_is_not_cleared(bench, writer):
    """A later run failed again, or the URL was edited, or there is none; nothing is written."""
    bench.insert(failed("again"), failed("edited"), waiting("waiting"))
    seen = {name: head_of(bench, name) for name in ("again", "edited", "waiting")}
    bench.store.apply([writer().fail(seen["again"])])
    bench.edit("edited", image_url=url_of("other"))
    before = bench.raw()
    assert [bench.index.clear_failure(head) for head in seen.values()] == [False] * 3
    assert bench.raw() == before


# What only a database does


class Filters(CommandListener):
    """The filter of every query, and the first stage of every aggregation."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []

    def started(self, event) -> None:
        """Note its filter."""
        if event.command_name == "find":
            self.seen.append(event.command["filter"])
        if event.command_name == "aggregate":
            self.seen.append(event.command["pipeline"][0]["$match"])

    def succeeded(self, event) -> None:
        """Nothing to note."""

    def failed(self, event) -> None:
        """Nothing to note."""


QUESTIONS: dict[str, tuple[str, Callable[[MongoRecordIndex], object]]] = {
    "waiting": ("mnist_ops_state", lambda index: index.waiting(AT, MANY)),
    "oldest_waiting": ("mnist_ops_state", lambda index: index.oldest_waiting(AT)),
    "permanently_failed": ("mnist_ops_state", lambda index: index.permanently_failed(AT, MANY)),
    "in_review": ("mnist_ops_review", lambda index: index.in_review(MANY)),
    "least_certain": ("mnist_ops_review", lambda index: index.least_certain(None, 10)),
    "next page": ("mnist_ops_review", lambda index: index.least_certain(ReviewCursor(0.5, "1"), 10)),
    "ids_of_url": ("mnist_ops_url", lambda index: index.ids_of_url(url_of(1), 10)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_index_answers_every_question(secantus, mongo_port, question):
    """The plan of each query that is sent is a scan of the index that was made for it."""
    secantus.insert(predicted(1, 0.4), waiting(2), failed(3))
    secantus.store.ensure_indexes()
    name, ask = QUESTIONS[question]
    filters = Filters()
    with MongoClient("127.0.0.1", mongo_port, event_listeners=[filters]) as client:
        ask(MongoRecordIndex(client[secantus.collection.database.name]["records"], FieldNames()))
    plans = {
        str(secantus.collection.find(query).explain()["queryPlanner"]["winningPlan"])
        for query in filters.seen
    }
    assert plans
    assert all("IXSCAN" in plan and f"'{name}" in plan for plan in plans), plans


def test_an_index_of_other_records_is_another_index(secantus):
    """One with the same keys that is sparse, or covers every record, does not count as ours."""
    index = record_indexes(FieldNames())["mnist_ops_review"]
    secantus.collection.create_index(index.keys, name="every record")
    secantus.collection.create_index([("image_url", 1)], name="sparse", sparse=True)
    assert {"mnist_ops_review", "mnist_ops_url"} <= set(secantus.store.missing_indexes())


def proxied(client: MongoClient, secantus: object) -> MongoRecordIndex:
    """The same records, through a proxy."""
    namespace = secantus.collection
    return MongoRecordIndex(client[namespace.database.name][namespace.name], FieldNames())


def test_a_label_whose_reply_is_lost_is_read_back(secantus, mongo_port):
    """It was written, so the reviewer is told so; one that never arrived is an error that may pass."""
    secantus.insert(predicted(1, 0.4), predicted(2, 0.4))
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient("127.0.0.1", proxy.port, directConnection=True, retryWrites=False) as client,
    ):
        index = proxied(client, secantus)
        proxy.lose_reply_to("update")
        assert index.set_label(LabelChange(head_of(secantus, 1), "one", "ada", AT))
        proxy.lose_request("update")
        with pytest.raises(Transient):
            index.set_label(LabelChange(head_of(secantus, 2), "one", "ada", AT))
    assert "label" not in secantus.document(2)
