"""Changes into records: batches in order, by compare-and-set, and each one's outcome from what was answered.

A batch is sent only after the one before it was answered, so that a publish which was killed has left
whole batches, then at most one in part, then nothing: the next attempt reads the former back.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from mnist_ops.domain.errors import OutcomeUnknown, Transient
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import RecordStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import Change, Prediction, PredictionFailure, PredictionStamp, RecordHead
from mnist_ops.domain.retry_policy import failure_after
from mnist_ops.steps.artifacts.shards import Row

# A bulk whose reply was lost is read back and, where it did not arrive, sent again this often.
_SENDS = 3
# So many batches in a row without a mark of this generation, and no later one has any: one may have been in
# flight when an earlier attempt was killed, and in one more all that is looked at may be in conflict.
_UNMARKED_BATCHES = 2


class WriteBack:
    """Writes batches of changes in a thread of its own, one after the other.

    Where an earlier attempt of this generation was killed, what it wrote is read back instead of sent.

    Args:
        records: where to write.
        thread: has one thread, and no other work.
    """

    def __init__(self, records: RecordStore, thread: ThreadPoolExecutor) -> None:
        self._records = records
        self._thread = thread
        self._pending: deque[Future[list[Row]]] = deque()
        self._unmarked = 0
        self._failed = False

    def __len__(self) -> int:
        """How many batches are under way: one being written, the others waiting for it."""
        return len(self._pending)

    def send(self, changes: Sequence[Change]) -> None:
        """Add a batch."""
        self._pending.append(self._thread.submit(self._write, changes))

    def outcomes(self) -> list[Row]:
        """Wait for the oldest batch; an outcome row a change, in order.

        Raises:
            Transient: the database did not answer.
        """
        return self._pending.popleft().result()

    def give_up(self) -> None:
        """Send no more batches; the one being sent may still be written."""
        for future in self._pending:
            future.cancel()

    def _write(self, changes: Sequence[Change]) -> list[Row]:
        if self._failed:
            raise Transient("an earlier batch failed")
        try:
            return write(self._records, changes, self._written_before(changes))
        except BaseException:
            self._failed = True
            raise

    def _written_before(self, changes: Sequence[Change]) -> dict[int, Row]:
        """The outcomes of changes that an earlier attempt of this generation has made, by position."""
        if not changes or self._unmarked == _UNMARKED_BATCHES:
            return {}
        last = len(changes) - 1
        if not _written(self._records, {place: changes[place] for place in (0, last // 2, last)}):
            self._unmarked += 1
            return {}
        self._unmarked = 0
        return _written(self._records, dict(enumerate(changes)))


@contextmanager
def writing_back(records: RecordStore) -> Iterator[WriteBack]:
    """Begin to write; an error ends it after the batch that is being written."""
    with ThreadPoolExecutor(1, thread_name_prefix="mnist-ops-publish") as thread:
        writer = WriteBack(records, thread)
        try:
            yield writer
        finally:
            writer.give_up()


def _written(records: RecordStore, changes: Mapping[int, Change]) -> dict[int, Row]:
    now = records.heads([change.head.id_json for change in changes.values()])
    return {
        position: _done(change)
        for position, change in changes.items()
        if (head := now.get(change.head.id_json)) is not None and carries(change, head)
    }


def write(
    records: RecordStore, changes: Sequence[Change], known: Mapping[int, Row] | None = None
) -> list[Row]:
    """Write a batch; an outcome row a change, in order.

    Args:
        records: where to write.
        changes: each happens only while its record is as it was snapshotted.
        known: outcomes that are certain already, by position; these changes are not sent.

    Raises:
        Transient: the database did not answer; writing again is safe.
    """
    outcomes = dict(known or {})
    pending = {position: change for position, change in enumerate(changes) if position not in outcomes}
    for _ in range(_SENDS):
        if not pending:
            break
        outcomes |= _send(records, pending)
        pending = {position: change for position, change in pending.items() if position not in outcomes}
    if pending:
        raise Transient(f"{len(pending)} writes did not arrive in {_SENDS} sends; publish again")
    return [outcomes[position] for position in range(len(changes))]


def _send(records: RecordStore, pending: dict[int, Change]) -> dict[int, Row]:
    """Send changes once; returns the outcomes that are certain."""
    positions, changes = list(pending), list(pending.values())
    outcomes: dict[int, Row] = {}
    try:
        report = records.apply(changes)
    except OutcomeUnknown:
        now = records.heads([change.head.id_json for change in changes])
        for position, change in pending.items():
            outcome = _read_back(change, now.get(change.head.id_json))
            if outcome is not None:
                outcomes[position] = outcome
        return outcomes
    for place, words in report.refused.items():
        outcomes[positions[place]] = _refused(records, changes[place], words)
    if report.matched + len(report.refused) == len(changes):
        return {position: _done(change) for position, change in pending.items()} | outcomes
    unsettled = {position: change for position, change in pending.items() if position not in outcomes}
    now = records.heads([change.head.id_json for change in unsettled.values()])
    for position, change in unsettled.items():
        # It was answered and did not match, so even a record that looks unchanged now was not written.
        outcomes[position] = _read_back(change, now.get(change.head.id_json)) or _row(
            change, Outcome.CONFLICT
        )
    return outcomes


def _read_back(change: Change, now: RecordHead | None) -> Row | None:
    """The outcome of a change as the record shows it; None where the change can still be made."""
    if now is None:
        return _row(change, Outcome.GONE)
    if carries(change, now):
        return _done(change)
    if unchanged(change.head, now):
        return None
    return _row(change, Outcome.CONFLICT)


def carries(change: Change, now: RecordHead) -> bool:
    """Whether a record carries exactly what a change writes."""
    outcome = change.outcome
    if isinstance(outcome, PredictionFailure):
        return (now.failure.run, now.failure.last_at) == (outcome.run, outcome.last_at)
    mine = PredictionStamp(outcome.generation.run, outcome.generation.number, outcome.model.digest)
    return now.stamp == mine


def unchanged(then: RecordHead, now: RecordHead) -> bool:
    """Whether a record is, in all that a write depends on, as it was snapshotted."""
    return (then.image_url, then.label, then.stamp, then.failure) == (
        now.image_url,
        now.label,
        now.stamp,
        now.failure,
    )


def _refused(records: RecordStore, change: Change, words: str) -> Row:
    """Quarantine a record whose write the database refused; its failure may be refused as well."""
    if isinstance(change.outcome, Prediction):
        failure = failure_after(
            change.head,
            Reason.WRITE_REFUSED,
            words,
            generation=change.outcome.generation,
            at=change.outcome.at,
        )
        records.apply([Change(change.head, failure)])
    row = _row(change, Outcome.QUARANTINED)
    return row | {"reason": str(Reason.WRITE_REFUSED), "detail": words}


def _done(change: Change) -> Row:
    if isinstance(change.outcome, Prediction):
        return _row(change, Outcome.PREDICTED)
    final = change.outcome.next_attempt_at is None
    return _row(change, Outcome.QUARANTINED if final else Outcome.RETRY_LATER)


def _row(change: Change, outcome: Outcome) -> Row:
    row: Row = {"record_id": change.head.id_json, "outcome": str(outcome)}
    if isinstance(change.outcome, PredictionFailure):
        row |= {"reason": str(change.outcome.reason), "detail": change.outcome.detail}
    return row
