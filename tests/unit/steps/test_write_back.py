"""Batches of changes: in order, a bounded number under way, and not sent again after a publish was killed."""

from collections.abc import Mapping, Sequence

import pytest

from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.domain.errors import Transient
from mnist_ops.domain.records import Change, RecordHead, WriteReport
from mnist_ops.steps.publish import RECORDS_PER_BULK
from tests.support.pipeline_in_memory import Pipeline, ReadyToPublish, url_of

BATCHES = 5


class Watched(InMemoryRecords):
    """Records that count what is asked of them, and may fail.

    Attributes:
        sent: how many changes each bulk had.
        looked_up: how many records each look-up asked for.
        kills: the number of the bulk of which only the first half arrives, and no answer comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []
        self.looked_up: list[int] = []
        self.kills: int | None = None

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Write, or be killed."""
        self.sent.append(len(changes))
        if self.kills == len(self.sent) - 1:
            super().apply(changes[: len(changes) // 2])
            raise Transient("killed")
        return super().apply(changes)

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        """Look up."""
        self.looked_up.append(len(ids))
        return super().heads(ids)

    def forget(self) -> None:
        """Count from zero again, and fail no more."""
        self.sent, self.looked_up, self.kills = [], [], None


@pytest.fixture
def records(pipeline: Pipeline) -> Watched:
    """The pipeline's records, none yet."""
    pipeline.records = watched = Watched()
    return watched


@pytest.fixture
def ready(pipeline: Pipeline, records: Watched) -> ReadyToPublish:
    """Failures of five batches of records, not written yet."""
    records.insert(*({"_id": n, "image_url": url_of(n)} for n in range(BATCHES * RECORDS_PER_BULK)))
    manifest = pipeline.snapshot(records_per_part=100_000)
    predictions = pipeline.predictions_of(manifest)
    return ReadyToPublish(pipeline, manifest, predictions, pipeline.assess(manifest, predictions))


def outcomes(ready: ReadyToPublish) -> set[object]:
    """Publish; return the outcomes that occurred."""
    rows = ready.pipeline.outcomes(ready.publish())
    assert len(rows) == BATCHES * RECORDS_PER_BULK
    return {row["outcome"] for row in rows.values()}


def test_a_first_publish_looks_at_six_records_and_sends_each_once(
    records: Watched, ready: ReadyToPublish
) -> None:
    """Two batches without a mark, and there was no earlier attempt."""
    assert outcomes(ready) == {"quarantined"}
    assert (records.looked_up, records.sent) == ([3, 3], [RECORDS_PER_BULK] * BATCHES)


def test_after_a_kill_only_what_is_missing_is_sent(records: Watched, ready: ReadyToPublish) -> None:
    """Of the batch that was in flight the other half, and the batches after it."""
    records.kills = 2
    with pytest.raises(Transient, match="killed"):
        ready.publish()
    records.forget()
    assert outcomes(ready) == {"quarantined"}
    assert records.sent == [RECORDS_PER_BULK // 2, RECORDS_PER_BULK, RECORDS_PER_BULK]


def test_after_a_batch_that_failed_no_other_is_sent(records: Watched, ready: ReadyToPublish) -> None:
    """Even if the next one is ready: a database that does not answer gets no more requests."""
    records.kills = 1
    with pytest.raises(Transient, match="killed"):
        ready.publish()
    assert records.sent == [RECORDS_PER_BULK] * 2


def test_a_batch_in_which_all_that_is_looked_at_was_deleted_does_not_hide_the_next(
    records: Watched, ready: ReadyToPublish
) -> None:
    """One batch without a mark does not prove that the later ones were not sent."""
    ready.publish()
    records.forget()
    for place in (0, (RECORDS_PER_BULK - 1) // 2, RECORDS_PER_BULK - 1):
        records.delete(RECORDS_PER_BULK + place)
    assert outcomes(ready) == {"quarantined", "gone"}
    assert records.sent == [RECORDS_PER_BULK]


def test_a_published_part_is_read_back_and_nothing_is_sent(records: Watched, ready: ReadyToPublish) -> None:
    """Every record carries this generation's mark."""
    ready.publish()
    before = records.documents()
    records.forget()
    assert outcomes(ready) == {"quarantined"}
    assert (records.sent, records.documents()) == ([], before)


def test_what_changed_since_an_earlier_attempt_has_its_usual_outcome(
    records: Watched, ready: ReadyToPublish
) -> None:
    """In a batch that is read back: deleted is gone, edited and never written a conflict."""
    records.kills = 0
    with pytest.raises(Transient, match="killed"):
        ready.publish()
    records.forget()
    records.delete(1)
    records.insert(records.document(900) | {"label": "seven"})
    rows = ready.pipeline.outcomes(ready.publish())
    odd = {name: row["outcome"] for name, row in rows.items() if row["outcome"] != "quarantined"}
    assert odd == {'{"$numberInt": "1"}': "gone", '{"$numberInt": "900"}': "conflict"}


def test_preparing_goes_one_batch_ahead_of_writing(
    records: Watched, ready: ReadyToPublish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with the part."""
    read: list[bytes] = []
    reading = records.head

    def head(document: bytes) -> RecordHead:
        read.append(document)
        return reading(document)

    monkeypatch.setattr(records, "head", head)
    ahead: list[int] = []
    records.before_write = lambda: ahead.append(len(read) - RECORDS_PER_BULK * len(ahead))
    ready.publish()
    assert max(ahead) <= 3 * RECORDS_PER_BULK
