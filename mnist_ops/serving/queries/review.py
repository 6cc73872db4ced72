"""The review of predictions: who gets which record, and what an answer writes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mnist_ops.domain.cursors import ReviewCursor
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.record_index import BoundedCount, LabelChange, fingerprint
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.reviewing import SESSION, GivenAnswer, answers_an_hour
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.queries.label_table import champion_labels
from mnist_ops.serving.queries.review_items import labels_of, predicted_label

REMAINING_COUNTED = 500
_PAGE = 100
# Pages that may be held by others before a reviewer is told that there is nothing to do.
_PAGES = 10
_SKIPS = 100
_ANSWERS_COUNTED = 1_000
_UNDOABLE = timedelta(hours=12)


class Said(StrEnum):
    """What became of a reviewer's answer."""

    SAVED = "saved"
    SKIPPED = "skipped"
    CHANGED = "changed"
    GONE = "gone"
    UNDONE = "undone"
    NOT_UNDONE = "not-undone"
    NOTHING_TO_UNDO = "nothing-to-undo"

    @property
    def words(self) -> str:
        """As a sentence or two."""
        return _WORDS[self]

    @property
    def as_wished(self) -> bool:
        """Whether what the reviewer asked for was done."""
        return self in (Said.SAVED, Said.SKIPPED, Said.UNDONE)


_WORDS = {
    Said.SAVED: "Saved.",
    Said.SKIPPED: "Skipped: it comes back when the others are done.",
    Said.CHANGED: "Not saved: somebody labelled the record, or its image or prediction changed, after it was "
    "shown to you. Go on with the next one.",
    Said.GONE: "Not saved: the record no longer exists. Go on with the next one.",
    Said.UNDONE: "Undone: the record is as it was before your answer.",
    Said.NOT_UNDONE: "Not undone: the label was changed after your answer. It stays as it is now.",
    Said.NOTHING_TO_UNDO: "There is nothing to undo: you gave no answer in the last 12 hours.",
}


@dataclass(frozen=True, slots=True)
class Session:
    """What a reviewer did in the last hour.

    Attributes:
        answered: records that they answered, and did not undo.
        an_hour: their rate; None before the second answer.
    """

    answered: int
    an_hour: float | None


def session(steps: Pipeline, who: str) -> Session:
    """What a reviewer did in the last hour."""
    answers = steps.adapters.reviews.answers(who, steps.now() - SESSION, _ANSWERS_COUNTED)
    return Session(len(answers), answers_an_hour(answers))


def remaining(steps: Pipeline) -> BoundedCount:
    """How many predictions need a review."""
    return steps.adapters.record_index.in_review(REMAINING_COUNTED)


def next_records(
    steps: Pipeline, who: str, count: int, without: Collection[str] = (), first: str | None = None
) -> list[RecordHead]:
    """The least certain records that nobody else looks at, leased to a reviewer; those they skipped last.

    Args:
        steps: the pipeline.
        who: the reviewer.
        count: the largest number of records.
        without: ids that the reviewer has already.
        first: an id that the reviewer asked for.

    Raises:
        UsageError: `first` is no id.
    """
    skipped = [record for record in steps.adapters.reviews.skipped(who, _SKIPS) if record not in without]
    # A lease's document is never deleted, so what is no record gets none.
    found = steps.adapters.records.heads([first]) if first is not None else {}
    asked = [record for record, head in found.items() if _reviewable(head, [record])]
    taken = _leased(steps, who, asked, count)
    passed = {*without, *skipped, *taken}
    taken += _least_certain(steps, who, count - len(taken), passed)
    taken += _leased(steps, who, [record for record in skipped if record not in taken], count - len(taken))
    heads = steps.adapters.records.heads(taken)
    for record in taken:
        if record not in heads or not _reviewable(heads[record], asked):
            # Answered between the query and the lease, or skipped and answered elsewhere since.
            steps.adapters.reviews.release(record, who, steps.now())
            steps.adapters.reviews.forget_skip(record, who)
    return [heads[record] for record in taken if record in heads and _reviewable(heads[record], asked)]


def _least_certain(steps: Pipeline, who: str, count: int, passed: Collection[str]) -> list[str]:
    taken: list[str] = []
    after: ReviewCursor | None = None
    for _ in range(_PAGES):
        page = steps.adapters.record_index.least_certain(after, _PAGE) if len(taken) < count else ()
        taken += _leased(
            steps, who, [head.id_json for head in page if head.id_json not in passed], count - len(taken)
        )
        if len(page) < _PAGE:
            break
        after = ReviewCursor.of(page[-1])
    return taken


def _leased(steps: Pipeline, who: str, ids: Sequence[str], count: int) -> list[str]:
    return list(steps.adapters.reviews.lease(ids, who, steps.now(), count)) if ids and count > 0 else []


def _reviewable(head: RecordHead, asked: Collection[str]) -> bool:
    """Whether a reviewer may get a record: marked for review, or asked for, since confident ones err too."""
    if head.label is not None or not head.prediction:
        return False
    return head.id_json in asked or head.prediction.get("needs_review") is True


def answer(steps: Pipeline, who: str, record: str, seen: str, label: str) -> Said:
    """Write a reviewer's label, if the record is still as they saw it.

    Args:
        steps: the pipeline.
        who: the reviewer.
        record: its id as canonical Extended JSON.
        seen: the digest of what they saw.
        label: a label of the champion's table, or the predicted one.

    Raises:
        UsageError: there is no such label.
    """
    ports, now = steps.adapters, steps.now()
    head = ports.records.heads([record]).get(record)
    if head is None:
        ports.reviews.release(record, who, now)
        return Said.GONE
    allowed = labels_of(head, champion_labels(steps))
    if not label or label not in (*allowed, predicted_label(head)):
        raise UsageError(f"label {label!r}: choose one of {', '.join(allowed)}")
    if fingerprint(head) != seen or not ports.record_index.set_label(LabelChange(head, label, who, now)):
        ports.reviews.release(record, who, now)
        ports.reviews.forget_skip(record, who)
        return Said.CHANGED
    ports.reviews.add_answer(GivenAnswer(record, who, now))
    return Said.SAVED


def skip(steps: Pipeline, who: str, record: str) -> Said:
    """Leave a record for others, and for later."""
    steps.adapters.reviews.skip(record, who, steps.now())
    return Said.SKIPPED


def last_answer(steps: Pipeline, who: str) -> GivenAnswer | None:
    """The last answer that a reviewer gave and did not undo; None if there is none to undo."""
    answers = steps.adapters.reviews.answers(who, steps.now() - _UNDOABLE, 1)
    return answers[0] if answers else None


def undo(steps: Pipeline, given: GivenAnswer) -> Said:
    """Restore the label that an answer replaced, unless somebody changed it since."""
    # The label first: if the database fails in between, the answer can still be undone.
    restored = steps.adapters.record_index.undo_label(given.record, given.by, given.at)
    steps.adapters.reviews.remove_answer(given)
    return Said.UNDONE if restored else Said.NOT_UNDONE
