"""Write changes into records, in batches, by compare-and-set; each change gets an outcome.

A batch is sent only after the reply to the one before it. So a publish that was killed leaves complete
batches, then at most one partly written batch, then nothing. The next attempt reads the written ones back.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Self

from mnist_ops.domain.errors import OutcomeUnknown, Transient
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import Change, Prediction, PredictionFailure, PredictionStamp, RecordHead
from mnist_ops.domain.retry_policy import Attempt, failure_after
from mnist_ops.steps.artifacts.shard_kinds import OutcomeRow

# If the reply to a bulk is lost, the records are read back, and the changes that are missing are sent again.
# A change is sent up to 3 times.
_MAX_SENDS = 3
# After 2 batches in a row without a mark of this generation, no later batch has one. The first may have been
# in flight when an earlier attempt was killed. In the second, all records that are looked at may be in
# conflict.
_MAX_UNMARKED_BATCHES = 2


class WriteBack:
    """Writes batches of changes in another thread, one after the other.

    Changes that an earlier attempt of this generation has written are read back, not sent again. An error in
    the `with` block drops the batches that wait; the one being sent may still be written.

    Args:
        records: the store to write to.
    """

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mnist-ops-publish")
        self._pending: deque[Future[list[OutcomeRow]]] = deque()
        self._unmarked = 0
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        """The number of unfinished batches: one is being written, the others wait."""
        return len(self._pending)

    def send(self, changes: Sequence[Change]) -> None:
        """Add a batch."""
        self._pending.append(self._thread.submit(self._write, changes))

    def outcomes(self) -> list[OutcomeRow]:
        """Wait for the oldest batch; returns an outcome row for each change, in order.

        Raises:
            Transient: the database did not answer.
        """
        return self._pending.popleft().result()

    def _write(self, changes: Sequence[Change]) -> list[OutcomeRow]:
        if self._failed:
            raise Transient("an earlier batch failed")
        try:
            return write(self._records, changes, self._written_before(changes))
        except BaseException:
            self._failed = True
            raise

    def _written_before(self, changes: Sequence[Change]) -> dict[int, OutcomeRow]:
        """The outcomes of changes that an earlier attempt of this generation has written, by position."""
        if not changes or self._unmarked == _MAX_UNMARKED_BATCHES:
            return {}
        last = len(changes) - 1
        if not _written(self._records, {position: changes[position] for position in (0, last // 2, last)}):
            self._unmarked += 1
            return {}
        self._unmarked = 0
        return _written(self._records, dict(enumerate(changes)))


def _written(records: RecordStore, changes: Mapping[int, Change]) -> dict[int, OutcomeRow]:
    now = records.heads([change.head.id_json for change in changes.values()])
    return {
        position: _carried(change, head)
        for position, change in changes.items()
        if (head := now.get(change.head.id_json)) is not None and carries(change, head)
    }


def write(
    records: RecordStore, changes: Sequence[Change], known: Mapping[int, OutcomeRow]
) -> list[OutcomeRow]:
    """Write a batch; returns an outcome row for each change, in order.

    Args:
        records: the store to write to.
        changes: each is made only if its record is as it was when the snapshot was taken.
        known: outcomes that are certain already, by position; these changes are not sent.

    Raises:
        Transient: the database did not answer; writing again is safe.
    """
    outcomes = dict(known)
    pending = {position: change for position, change in enumerate(changes) if position not in outcomes}
    for _ in range(_MAX_SENDS):
        if not pending:
            break
        outcomes |= _send(records, pending)
        pending = {position: change for position, change in pending.items() if position not in outcomes}
    if pending:
        raise Transient(f"{len(pending)} writes did not arrive in {_MAX_SENDS} attempts; publish again")
    return [outcomes[position] for position in range(len(changes))]


def _send(records: RecordStore, pending: dict[int, Change]) -> dict[int, OutcomeRow]:
    """Send changes once; returns the outcomes that are certain."""
    positions, changes = list(pending), list(pending.values())
    outcomes: dict[int, OutcomeRow] = {}
    try:
        report = records.apply(changes)
    except OutcomeUnknown:
        now = records.heads([change.head.id_json for change in changes])
        for position, change in pending.items():
            outcome = _read_back(change, now.get(change.head.id_json))
            if outcome is not None:
                outcomes[position] = outcome
        return outcomes
    if report.refused:
        refused = {positions[place]: message for place, message in report.refused.items()}
        outcomes = _refused(records, pending, refused)
    if report.matched + len(report.refused) == len(changes):
        return {position: _done(change) for position, change in pending.items()} | outcomes
    unsettled = {position: change for position, change in pending.items() if position not in outcomes}
    now = records.heads([change.head.id_json for change in unsettled.values()])
    for position, change in unsettled.items():
        # The database answered, and the record did not match. So it was not written, even if it looks
        # unchanged now.
        outcomes[position] = _read_back(change, now.get(change.head.id_json)) or _row(
            change, Outcome.CONFLICT
        )
    return outcomes


def _read_back(change: Change, now: RecordHead | None) -> OutcomeRow | None:
    """The outcome that the record shows; None if the change can still be made."""
    if now is None:
        return _row(change, Outcome.GONE)
    if carries(change, now):
        return _carried(change, now)
    if unchanged(change.head, now):
        return None
    return _row(change, Outcome.CONFLICT)


def carries(change: Change, now: RecordHead) -> bool:
    """Whether a record carries what a change writes, or a failure that an earlier attempt wrote instead."""
    outcome = change.outcome
    if isinstance(outcome, PredictionFailure):
        return (now.failure.run, now.failure.last_at) == (outcome.run, outcome.last_at)
    failed_before = (now.failure.run, now.failure.last_at) == (outcome.generation.run, outcome.at)
    return failed_before or _predicted(outcome, now)


def _predicted(prediction: Prediction, now: RecordHead) -> bool:
    generation = prediction.generation
    return now.stamp == PredictionStamp(generation.run, generation.number, prediction.model.digest)


def unchanged(then: RecordHead, now: RecordHead) -> bool:
    """Whether all fields that a write depends on are as they were when the snapshot was taken."""
    return (then.image_url, then.label, then.stamp, then.failure) == (
        now.image_url,
        now.label,
        now.stamp,
        now.failure,
    )


def _refused(
    records: RecordStore, changes: Mapping[int, Change], refused: Mapping[int, str]
) -> dict[int, OutcomeRow]:
    """The outcomes of refused changes, by position; in place of a prediction, a failure is written.

    Args:
        records: the store to write to.
        changes: the changes that were sent, by position.
        refused: the database's messages, by position.
    """
    outcomes: dict[int, OutcomeRow] = {}
    failures: dict[int, Change] = {}
    for position, message in refused.items():
        head, outcome = changes[position].head, changes[position].outcome
        if isinstance(outcome, Prediction):
            attempt = Attempt(outcome.generation, outcome.at)
            failures[position] = Change(head, failure_after(head, Reason.WRITE_REFUSED, message, attempt))
        else:
            outcomes[position] = {
                "record_id": head.id_json,
                # The record carries nothing of this run, so the next one selects it again.
                "outcome": str(Outcome.RETRY_LATER),
                "reason": str(Reason.WRITE_REFUSED),
                "detail": f"not even the failure could be written: {message}",
            }
    written = write(records, list(failures.values()), {})
    return outcomes | dict(zip(failures, written, strict=True))


def _done(change: Change) -> OutcomeRow:
    if isinstance(change.outcome, Prediction):
        return _row(change, Outcome.PREDICTED)
    return _row(change, _outcome_of(change.outcome.next_attempt_at))


def _carried(change: Change, now: RecordHead) -> OutcomeRow:
    """The outcome that a record carries already.

    It may differ from what the change would write: the run was assessed again with another budget, its
    images were fetched again, or the database refused the prediction.
    """
    if isinstance(change.outcome, Prediction) and _predicted(change.outcome, now):
        return _row(change, Outcome.PREDICTED)
    row = _row(change, _outcome_of(now.failure.next_attempt_at))
    if now.failure.reason != row.get("reason"):
        row["reason"], row["detail"] = str(now.failure.reason), "written by an earlier attempt of this run"
    return row


def _outcome_of(next_attempt_at: datetime | None) -> Outcome:
    return Outcome.QUARANTINED if next_attempt_at is None else Outcome.RETRY_LATER


def _row(change: Change, outcome: Outcome) -> OutcomeRow:
    row: OutcomeRow = {"record_id": change.head.id_json, "outcome": str(outcome)}
    if isinstance(change.outcome, PredictionFailure):
        row["reason"], row["detail"] = str(change.outcome.reason), change.outcome.detail
    return row
