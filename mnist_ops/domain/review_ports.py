"""The ports of people's work: leases and answers of reviewers, and the audits they label."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from mnist_ops.domain.drawn_audits import AuditAnswer, DrawnAudit
from mnist_ops.domain.reviewing import GivenAnswer


class ReviewStore(Protocol):
    """Leases of records, one holder each, and what reviewers did with them."""

    def lease(self, ids: Sequence[str], holder: str, now: datetime, limit: int) -> Sequence[str]:
        """Lease records to a reviewer for `reviewing.LEASE`; returns those that they hold now, in order.

        A record that another reviewer holds is left out, unless that lease has expired. Own leases are
        extended.

        Args:
            ids: as canonical Extended JSON, at most 100.
            holder: the reviewer.
            now: the time (UTC).
            limit: stop after this number of records.
        """

    def release(self, record: str, holder: str, now: datetime) -> None:
        """End a reviewer's lease; does nothing where they hold none."""

    def skip(self, record: str, holder: str, now: datetime) -> None:
        """End a reviewer's lease; the record comes back to them last."""

    def skipped(self, holder: str, limit: int) -> Sequence[str]:
        """The records that a reviewer skipped and nobody answered since, the longest ago first."""

    def forget_skip(self, record: str, holder: str) -> None:
        """The record no longer counts as skipped by the reviewer."""

    def add_answer(self, answer: GivenAnswer) -> None:
        """Remember an answer; ends the lease of its record, and nobody has skipped it any more."""

    def answers(self, by: str, since: datetime, limit: int) -> Sequence[GivenAnswer]:
        """The newest answers of a reviewer, newest first; of one record the last one only."""

    def remove_answer(self, answer: GivenAnswer) -> bool:
        """Forget an answer; False if it is not the last one of its record."""


class AuditStore(Protocol):
    """Audits, with the answers that people gave."""

    def put(self, audit: DrawnAudit) -> None:
        """Store a new audit."""

    def get(self, audit_id: str) -> DrawnAudit | None:
        """An audit with its answers; None if there is none of this id."""

    def newest(self, limit: int) -> Sequence[DrawnAudit]:
        """The audits drawn last, newest first."""

    def answer(self, audit_id: str, position: int, answer: AuditAnswer) -> bool:
        """Answer one prediction of the sample; False if it has an answer already, or does not exist."""

    def withdraw(self, audit_id: str, position: int, answer: AuditAnswer) -> bool:
        """Take an answer back; False if it is not the present one."""
