"""What every store of leases, answers and audits does, in memory and in MongoDB."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.adapters.memory.reviews import InMemoryAudits, InMemoryReviews
from mnist_ops.adapters.mongo.audits import MongoAudits
from mnist_ops.adapters.mongo.reviews import MongoReviews
from mnist_ops.domain.drawn_audits import AuditAnswer, DrawnAudit, DrawnPrediction
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.review_ports import AuditStore, ReviewStore
from mnist_ops.domain.reviewing import LEASE, GivenAnswer

NOW = datetime(2026, 2, 1, 9, tzinfo=UTC)
IDS = [f'{{"$oid": "65f0000000000000000000{number:02x}"}}' for number in range(40)]
RUN = Generation("classify_records/a.run", 1)


@pytest.fixture(params=["memory", "secantus"])
def reviews(request: pytest.FixtureRequest) -> ReviewStore:
    """Nobody has looked at a record yet."""
    return (
        InMemoryReviews() if request.param == "memory" else MongoReviews(request.getfixturevalue("database"))
    )


@pytest.fixture(params=["memory", "secantus"])
def audits(request: pytest.FixtureRequest) -> AuditStore:
    """No audit yet."""
    return InMemoryAudits() if request.param == "memory" else MongoAudits(request.getfixturevalue("database"))


def test_two_reviewers_get_different_records(reviews: ReviewStore) -> None:
    """The second gets those behind the first's."""
    assert reviews.lease(IDS, "ada", NOW, 10) == IDS[:10]
    assert reviews.lease(IDS, "bob", NOW, 10) == IDS[10:20]
    assert reviews.lease(IDS, "ada", NOW, 10) == IDS[:10]


@pytest.mark.usefixtures("hasty_threads")
def test_reviewers_that_race_never_share_a_record(reviews: ReviewStore) -> None:
    """Each asks for records one at a time, at the same moment as the other."""
    barrier, taken = threading.Barrier(2), {"ada": [], "bob": []}

    def lease(holder: str) -> None:
        for start in range(0, len(IDS), 4):
            barrier.wait(timeout=30)
            taken[holder] += reviews.lease(IDS[start : start + 4], holder, NOW, 4)

    threads = [threading.Thread(target=lease, args=(holder,)) for holder in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken["ada"] + taken["bob"]) == IDS


def test_an_expired_lease_is_taken_over(reviews: ReviewStore) -> None:
    """Not a moment before its end."""
    reviews.lease(IDS[:1], "ada", NOW, 1)
    almost = NOW + LEASE - timedelta(milliseconds=1)
    assert reviews.lease(IDS[:1], "bob", almost, 1) == []
    assert reviews.lease(IDS[:1], "bob", NOW + LEASE, 1) == IDS[:1]
    assert reviews.lease(IDS[:1], "ada", NOW + LEASE, 1) == []


def test_a_released_record_is_free_and_nobody_releases_that_of_another(reviews: ReviewStore) -> None:
    """At once."""
    reviews.lease(IDS[:1], "ada", NOW, 1)
    reviews.release(IDS[0], "bob", NOW)
    assert reviews.lease(IDS[:1], "bob", NOW, 1) == []
    reviews.release(IDS[0], "ada", NOW)
    assert reviews.lease(IDS[:1], "bob", NOW, 1) == IDS[:1]


def test_a_skipped_record_is_remembered_for_that_reviewer_only(reviews: ReviewStore) -> None:
    """In the order of skipping; it is free for others, and an answer of anybody ends it."""
    reviews.lease(IDS, "ada", NOW, 3)
    for second, number in enumerate((1, 0, 2)):
        reviews.skip(IDS[number], "ada", NOW + timedelta(seconds=second))
    assert reviews.skipped("ada", 10) == [IDS[1], IDS[0], IDS[2]]
    assert reviews.skipped("ada", 1) == [IDS[1]]
    assert reviews.skipped("bob", 10) == []
    later = NOW + timedelta(minutes=1)
    assert reviews.lease(IDS, "bob", later, 2) == IDS[:2]
    reviews.add_answer(GivenAnswer(IDS[0], "bob", later))
    reviews.forget_skip(IDS[2], "ada")
    assert reviews.skipped("ada", 10) == [IDS[1]]


def test_the_answers_of_a_reviewer_are_listed_newest_first(reviews: ReviewStore) -> None:
    """Those of the time that is asked for, with the audit that they belong to."""
    given = [
        GivenAnswer(IDS[number], "ada", NOW + timedelta(minutes=number), "an-audit" if number == 2 else None)
        for number in range(4)
    ]
    for answer in (*given, GivenAnswer(IDS[9], "bob", NOW)):
        reviews.add_answer(answer)
    assert reviews.answers("ada", NOW + timedelta(minutes=1), 10) == given[:0:-1]
    assert reviews.answers("ada", NOW, 1) == given[-1:]


def test_an_answer_is_removed_once_and_only_while_it_is_the_last(reviews: ReviewStore) -> None:
    """Two undos at once count as one."""
    answer = GivenAnswer(IDS[0], "ada", NOW)
    reviews.add_answer(answer)
    assert not reviews.remove_answer(replace(answer, by="bob"))
    assert not reviews.remove_answer(replace(answer, at=NOW + timedelta(seconds=1)))
    assert reviews.remove_answer(answer)
    assert not reviews.remove_answer(answer)
    assert reviews.answers("ada", NOW, 10) == []


def _audit(number: int = 0) -> DrawnAudit:
    sample = tuple(
        DrawnPrediction(
            record, "from 0.99", f"https://images.example/{record}", "ab" * 32, RUN, "seven", 0.995
        )
        for record in IDS[:3]
    )
    return DrawnAudit(
        id=f"20260201T0900{number:02}Z-abcd",
        seed=7,
        strata="confidence",
        records={"from 0.99": 12_000, "under 0.9": 40},
        runs=(RUN,),
        labels=("zero", "one"),
        sample=sample,
        drawn_by="ada",
        drawn_at=NOW + timedelta(seconds=number),
    )


def test_an_audit_is_read_as_it_was_stored(audits: AuditStore) -> None:
    """Names of strata hold dots."""
    audits.put(_audit())
    assert audits.get(_audit().id) == _audit()
    assert audits.get("another") is None


def test_the_newest_audits_come_first(audits: AuditStore) -> None:
    """At most as many as were asked for."""
    for number in (1, 3, 2):
        audits.put(_audit(number))
    assert audits.newest(2) == [_audit(3), _audit(2)]


def test_a_drawn_prediction_is_answered_once(audits: AuditStore) -> None:
    """The second answer changes nothing, and neither does one beyond the sample."""
    audits.put(_audit())
    first, second = AuditAnswer("one", "ada", NOW), AuditAnswer(None, "bob", NOW)
    assert audits.answer(_audit().id, 1, first)
    assert not audits.answer(_audit().id, 1, second)
    assert not audits.answer(_audit().id, 3, second)
    assert not audits.answer("another", 1, second)
    assert [drawn.answer for drawn in audits.get(_audit().id).sample] == [None, first, None]


def test_an_answer_is_withdrawn_by_whoever_gave_it(audits: AuditStore) -> None:
    """The next person may then answer."""
    audits.put(_audit())
    answer = AuditAnswer(None, "ada", NOW)
    audits.answer(_audit().id, 0, answer)
    assert not audits.withdraw(_audit().id, 0, replace(answer, by="bob"))
    assert audits.withdraw(_audit().id, 0, answer)
    assert audits.get(_audit().id) == _audit()
