"""A failed record is tried again after growing delays, at most five times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import FailureStamp, PredictionFailure, RecordHead
from mnist_ops.domain.retry_policy import MAX_ATTEMPTS, Attempt, failure_after

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
HEAD = RecordHead(id=1, id_json="1", image_url="https://images.example/7.png", created_at=AT)
RUN = Generation("dag/run", 2)
TRANSIENT = [reason for reason in Reason if reason.transient]
PERMANENT = [reason for reason in Reason if not reason.transient]


def attempt(
    head: RecordHead = HEAD,
    reason: Reason = Reason.TIMEOUT,
    at: datetime = AT,
    retry_after_s: float | None = None,
    *,
    over_budget: bool = False,
) -> PredictionFailure:
    """Return the failure after one more attempt."""
    run = Attempt(RUN, at, over_budget)
    return failure_after(head, reason, "no answer", run, retry_after_s=retry_after_s)


def carrying(failure: PredictionFailure, head: RecordHead = HEAD) -> RecordHead:
    """Return the record once the failure is written into it."""
    values = failure.document()
    del values["detail"], values["permanent"]
    return replace(head, failure=FailureStamp(**values))


def history(
    count: int, reason: Reason = Reason.TIMEOUT, *, over_budget: bool = False
) -> list[PredictionFailure]:
    """Return the failures of `count` attempts in a row, each made when it was due."""
    failures, head, at = [], HEAD, AT
    for _ in range(count):
        failure = attempt(head, reason, at, over_budget=over_budget)
        failures.append(failure)
        head, at = carrying(failure), failure.next_attempt_at or at + timedelta(days=1)
    return failures


@pytest.mark.parametrize("reason", TRANSIENT)
def test_a_transient_failure_is_tried_at_most_five_times(reason: Reason) -> None:
    """Then it is permanent."""
    failures = history(MAX_ATTEMPTS, reason)
    assert [failure.attempts for failure in failures] == [1, 2, 3, 4, 5]
    assert [failure.next_attempt_at is None for failure in failures] == [False] * 4 + [True]


def test_the_delays_grow_fourfold() -> None:
    """A quarter of an hour, then one, four and sixteen hours."""
    delays = [f.next_attempt_at - f.last_at for f in history(4) if f.next_attempt_at is not None]
    assert delays == [timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4), timedelta(hours=16)]


@pytest.mark.parametrize("reason", PERMANENT)
def test_a_permanent_failure_is_not_tried_again(reason: Reason) -> None:
    """Not even with a `Retry-After`."""
    assert attempt(reason=reason, retry_after_s=1).next_attempt_at is None


@pytest.mark.parametrize("reason", [reason for reason in PERMANENT if reason.can_hit_whole_run])
def test_over_budget_what_one_mistake_can_cause_for_a_whole_run_is_retried(reason: Reason) -> None:
    """At most five times, with the delays of a transient failure; then it is permanent."""
    failures = history(MAX_ATTEMPTS, reason, over_budget=True)
    assert [failure.attempts for failure in failures] == [1, 2, 3, 4, 5]
    assert [failure.next_attempt_at is None for failure in failures] == [False] * 4 + [True]
    assert failures[0].next_attempt_at == AT + timedelta(minutes=15)


@pytest.mark.parametrize("reason", [reason for reason in Reason if not reason.can_hit_whole_run])
def test_over_budget_a_fault_of_the_record_itself_is_permanent(reason: Reason) -> None:
    """Other records have nothing to do with it."""
    assert attempt(reason=reason, over_budget=True).next_attempt_at is None


def test_within_the_budget_a_retried_failure_becomes_permanent_again() -> None:
    """A run over its budget only defers the decision."""
    first = attempt(reason=Reason.NOT_FOUND, over_budget=True)
    assert attempt(carrying(first), Reason.NOT_FOUND).next_attempt_at is None


@pytest.mark.parametrize("former", [Reason.TIMEOUT, Reason.NOT_FOUND])
def test_a_permanent_failure_that_was_asked_for_again_starts_again_at_one_attempt(former: Reason) -> None:
    """Otherwise one lost request after five attempts would be permanent at once."""
    last, later = history(MAX_ATTEMPTS, former)[-1], AT + timedelta(days=30)
    assert last.next_attempt_at is None
    failure = attempt(carrying(last), Reason.TIMEOUT, later)
    assert (failure.attempts, failure.first_at) == (1, later)
    assert failure.next_attempt_at == later + timedelta(minutes=15)


def test_an_edited_url_starts_again_at_one_attempt() -> None:
    """Attempts are counted per URL."""
    edited = replace(carrying(history(4)[-1]), image_url="https://images.example/fixed.png")
    failure = attempt(edited, at=AT + timedelta(days=9))
    assert (failure.attempts, failure.first_at) == (1, AT + timedelta(days=9))


def test_the_time_of_the_first_attempt_is_kept() -> None:
    """It says since when the image has been failing."""
    assert {failure.first_at for failure in history(3)} == {AT}


@pytest.mark.parametrize(
    ("asked_s", "waits"),
    [
        (1.0, timedelta(minutes=15)),
        (0.0, timedelta(minutes=15)),
        (-5.0, timedelta(minutes=15)),
        (7_200.0, timedelta(hours=2)),
        (86_400.0, timedelta(days=1)),
        (315_360_000.0, timedelta(days=1)),
        (float("inf"), timedelta(days=1)),
        (None, timedelta(minutes=15)),
    ],
)
def test_a_longer_retry_after_is_respected_up_to_a_day(asked_s: float | None, waits: timedelta) -> None:
    """It never shortens our own delay, and ten years count as one day."""
    assert attempt(retry_after_s=asked_s).next_attempt_at == AT + waits


@given(
    st.integers(-3, 50),
    st.none() | st.floats(allow_nan=False),
    st.sampled_from(list(Reason)),
    st.none() | st.text() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)
@example(0, -1e14, Reason.TIMEOUT, None, None)
def test_the_next_attempt_is_bounded_with_any_earlier_failure_in_the_record(
    attempts: int, asked_s: float | None, reason: Reason, first_at: object, due: datetime | None
) -> None:
    """Other software may have written the failure in a record."""
    stamp = FailureStamp(attempts=attempts, image_url=HEAD.image_url, first_at=first_at, next_attempt_at=due)
    failure = attempt(replace(HEAD, failure=stamp), reason, retry_after_s=asked_s, over_budget=True)
    assert isinstance(failure.first_at, datetime)
    assert failure.attempts >= 1
    if failure.next_attempt_at is not None:
        assert failure.attempts < MAX_ATTEMPTS
        assert timedelta(0) < failure.next_attempt_at - AT <= timedelta(days=1)


def test_a_retry_after_that_is_not_a_number_is_ignored() -> None:
    """Every comparison with NaN is false, so it must not take part in one."""
    assert attempt(retry_after_s=float("nan")).next_attempt_at == AT + timedelta(minutes=15)


def test_a_failure_names_its_run_and_url() -> None:
    """So that a person finds the log of the run that wrote it."""
    failure = attempt()
    assert (failure.run, failure.image_url, failure.last_at) == ("dag/run", HEAD.image_url, AT)
