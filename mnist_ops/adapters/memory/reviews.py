"""Leases, answers and audits in memory, for tests and for trying a page out."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from mnist_ops.domain.drawn_audits import AuditAnswer, DrawnAudit
from mnist_ops.domain.reviewing import LEASE, GivenAnswer

# Makes changes atomic, as a database would. Of the module, so that stores can be copied.
_LOCK = threading.Lock()
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class _Review:
    holder: str = ""
    until: datetime = _NEVER
    skipped_by: set[str] = field(default_factory=set)
    answer: GivenAnswer | None = None


class InMemoryReviews:
    """Leases and answers in a dictionary. Implements `ReviewStore`."""

    def __init__(self) -> None:
        self._reviews: dict[str, _Review] = {}

    def lease(self, ids: Sequence[str], holder: str, now: datetime, limit: int) -> Sequence[str]:
        taken: list[str] = []
        with _LOCK:
            for record in ids:
                if len(taken) == limit:
                    break
                review = self._reviews.setdefault(record, _Review())
                if review.holder == holder or review.until <= now:
                    review.holder, review.until = holder, now + LEASE
                    taken.append(record)
        return taken

    def release(self, record: str, holder: str, now: datetime) -> None:
        with _LOCK:
            review = self._reviews.get(record)
            if review is not None and review.holder == holder:
                review.until = now

    def skip(self, record: str, holder: str, now: datetime) -> None:
        with _LOCK:
            review = self._reviews.get(record)
            if review is not None and review.holder == holder:
                review.until = now
                review.skipped_by.add(holder)

    def skipped(self, holder: str, limit: int) -> Sequence[str]:
        skipped = [key for key, review in self._reviews.items() if holder in review.skipped_by]
        return sorted(skipped, key=lambda key: self._reviews[key].until)[:limit]

    def forget_skip(self, record: str, holder: str) -> None:
        if record in self._reviews:
            self._reviews[record].skipped_by.discard(holder)

    def add_answer(self, answer: GivenAnswer) -> None:
        self._reviews[answer.record] = _Review(answer.by, answer.at, answer=answer)

    def answers(self, by: str, since: datetime, limit: int) -> Sequence[GivenAnswer]:
        given = [review.answer for review in self._reviews.values() if review.answer is not None]
        of_reviewer = [answer for answer in given if answer.by == by and answer.at >= since]
        return sorted(of_reviewer, key=lambda answer: answer.at, reverse=True)[:limit]

    def remove_answer(self, answer: GivenAnswer) -> bool:
        with _LOCK:
            review = self._reviews.get(answer.record)
            if review is None or review.answer != answer:
                return False
            review.answer = None
            return True


class InMemoryAudits:
    """Audits in a dictionary. Implements `AuditStore`."""

    def __init__(self) -> None:
        self._audits: dict[str, DrawnAudit] = {}

    def put(self, audit: DrawnAudit) -> None:
        self._audits[audit.id] = audit

    def get(self, audit_id: str) -> DrawnAudit | None:
        return self._audits.get(audit_id)

    def newest(self, limit: int) -> Sequence[DrawnAudit]:
        return sorted(self._audits.values(), key=lambda audit: audit.drawn_at, reverse=True)[:limit]

    def answer(self, audit_id: str, position: int, answer: AuditAnswer) -> bool:
        return self._replace(audit_id, position, None, answer)

    def withdraw(self, audit_id: str, position: int, answer: AuditAnswer) -> bool:
        return self._replace(audit_id, position, answer, None)

    def _replace(
        self, audit_id: str, position: int, expected: AuditAnswer | None, answer: AuditAnswer | None
    ) -> bool:
        with _LOCK:
            audit = self._audits.get(audit_id)
            if audit is None or not 0 <= position < len(audit.sample):
                return False
            sample = list(audit.sample)
            if sample[position].answer != expected:
                return False
            sample[position] = replace(sample[position], answer=answer)
            self._audits[audit_id] = replace(audit, sample=tuple(sample))
            return True
