"""The audit of a random sample: which prediction a person labels next, and what an answer writes."""

from collections.abc import Collection
from itertools import islice

from mnist_ops.domain.drawn_audits import AuditAnswer, DrawnAudit, DrawnPrediction
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.record_index import LabelChange
from mnist_ops.domain.records import RecordHead
from mnist_ops.domain.reviewing import GivenAnswer
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.queries import review
from mnist_ops.serving.queries.review import Said

_LEASED_AT_ONCE = 100
_SKIPS = 100


def audit_named(steps: Pipeline, audit_id: str) -> DrawnAudit:
    """An audit with its answers.

    Raises:
        UsageError: there is none of this id.
    """
    audit = steps.adapters.audits.get(audit_id)
    if audit is None:
        raise UsageError(f"no audit {audit_id}: choose one of the list")
    return audit


def next_drawn(
    steps: Pipeline, audit: DrawnAudit, who: str, count: int, without: Collection[str] = ()
) -> list[int]:
    """The positions in a sample that a person answers next, leased to them; those they skipped last.

    Args:
        steps: the pipeline.
        audit: the audit.
        who: the person.
        count: the largest number of positions.
        without: ids of records that the person has already.
    """
    reviews, now = steps.adapters.reviews, steps.now()
    skipped = set(reviews.skipped(who, _SKIPS))
    open_ = {
        drawn.record: position
        for position, drawn in enumerate(audit.sample)
        if drawn.answer is None and drawn.record not in without
    }
    order = [*(each for each in open_ if each not in skipped), *(each for each in open_ if each in skipped)]
    taken: list[str] = []
    for start in range(0, len(order), _LEASED_AT_ONCE):
        if len(taken) >= count:
            break
        taken += reviews.lease(order[start : start + _LEASED_AT_ONCE], who, now, count - len(taken))
    return [open_[record] for record in taken]


def answer_drawn(steps: Pipeline, who: str, audit_id: str, position: int, label: str | None) -> Said:
    """Answer one prediction of a sample; its record gets the label too, if it is as when it was drawn.

    Args:
        steps: the pipeline.
        who: the person.
        audit_id: the audit.
        position: in its sample.
        label: a label of its table; None if no label fits, which writes nothing into the record.

    Raises:
        UsageError: there is no such audit, position or label.
    """
    audit = audit_named(steps, audit_id)
    if not 0 <= position < len(audit.sample):
        raise UsageError(f"audit {audit_id} has no prediction {position}: it has {len(audit.sample)}")
    if label is not None and label not in audit.labels:
        raise UsageError(f"label {label!r}: choose one of {', '.join(audit.labels)}")
    ports, drawn, now = steps.adapters, audit.sample[position], steps.now()
    if not ports.audits.answer(audit_id, position, AuditAnswer(label, who, now)):
        ports.reviews.release(drawn.record, who, now)
        return Said.CHANGED
    head = ports.records.heads([drawn.record]).get(drawn.record)
    if label is not None and head is not None and _as_drawn(head, drawn):
        ports.record_index.set_label(LabelChange(head, label, who, now))
    ports.reviews.add_answer(GivenAnswer(drawn.record, who, now, audit_id))
    return Said.SAVED


def _as_drawn(head: RecordHead, drawn: DrawnPrediction) -> bool:
    predicted_by = (head.stamp.run, head.stamp.generation)
    same = predicted_by == (drawn.generation.run, drawn.generation.number)
    return same and head.label is None and head.image_url == drawn.url


def undo(steps: Pipeline, who: str) -> tuple[Said, GivenAnswer | None]:
    """Take the last answer of a reviewer back, whether an audit asked for it or not."""
    given = review.last_answer(steps, who)
    if given is None:
        return Said.NOTHING_TO_UNDO, None
    if given.audit is None:
        return review.undo(steps, given), given
    withdrawn = _withdraw(steps, given, given.audit)
    # The record may never have got the label, so whether that is undone does not matter.
    review.undo(steps, given)
    return (Said.UNDONE if withdrawn else Said.NOT_UNDONE), given


def reopened(steps: Pipeline, given: GivenAnswer, audit_id: str) -> tuple[DrawnAudit, list[int]]:
    """The audit of an answer that was taken back, and the position that is to be answered again."""
    audit = audit_named(steps, audit_id)
    steps.adapters.reviews.lease([given.record], given.by, steps.now(), 1)
    open_ = (
        position
        for position, drawn in enumerate(audit.sample)
        if drawn.record == given.record and drawn.answer is None
    )
    return audit, list(islice(open_, 1))


def _withdraw(steps: Pipeline, given: GivenAnswer, audit_id: str) -> bool:
    audit = steps.adapters.audits.get(audit_id)
    for position, drawn in enumerate(audit.sample if audit else ()):
        answer = drawn.answer
        if answer is not None and (drawn.record, answer.by, answer.at) == (given.record, given.by, given.at):
            return steps.adapters.audits.withdraw(audit_id, position, answer)
    return False
