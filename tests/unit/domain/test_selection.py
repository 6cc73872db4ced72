"""The rule for which records a generation takes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import FailureStamp, RecordHead
from mnist_ops.domain.selection import Reclassify, Selection, parse_reclassify, takes

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
URL = "https://images.example/7.png"

EVERYTHING = Selection(at=AT)
WINDOW = Selection(at=AT, since=AT - DAY, until=AT)
WAITING = RecordHead(id=1, id_json="1", image_url=URL, created_at=AT - DAY / 2)
CHAMPION, FORMER = "sha256:champion", "sha256:former"


def predicted(digest: str = CHAMPION, url: str = URL) -> RecordHead:
    """Return a record with a prediction."""
    prediction = {"run": "dag/other", "generation": 0, "model": {"digest": digest}, "image": {"url": url}}
    return replace(WAITING, prediction=prediction)


def failed(**stamp: object) -> RecordHead:
    """Return a record whose last attempt failed for good, unless `stamp` says otherwise."""
    values: dict[str, object] = {"attempts": 1, "image_url": URL, "reason": str(Reason.NOT_FOUND)}
    return replace(WAITING, failure=FailureStamp(**(values | stamp)))


def test_a_record_without_anything_waits() -> None:
    """No label, no prediction, no failure."""
    assert takes(EVERYTHING, WAITING)


@pytest.mark.parametrize("reclassify", list(Reclassify))
@pytest.mark.parametrize("head", [WAITING, predicted(FORMER), failed(), predicted(url="https://other")])
@pytest.mark.parametrize("label", ["seven", "", 0, False, [], {}])
def test_a_human_label_protects_a_record_from_every_policy(
    reclassify: Reclassify, head: RecordHead, label: object
) -> None:
    """Even a label that the table does not know."""
    selection = replace(EVERYTHING, reclassify=reclassify, champion=CHAMPION)
    assert not takes(selection, replace(head, label=label))


@pytest.mark.parametrize(
    ("created_at", "taken"),
    [
        (AT - DAY - MILLISECOND, False),
        (AT - DAY, True),
        (AT - MILLISECOND, True),
        (AT, False),
        (None, False),
    ],
)
def test_a_window_is_closed_below_and_open_above(created_at: datetime | None, taken: bool) -> None:
    """Neighbouring windows share no record and leave none out."""
    assert takes(WINDOW, replace(WAITING, created_at=created_at)) is taken


@pytest.mark.parametrize("created_at", [AT - 10_000 * DAY, AT - MILLISECOND, None])
def test_a_selection_without_a_beginning_takes_late_and_undated_records(created_at: datetime | None) -> None:
    """A record without a creation time is not lost."""
    assert takes(Selection(at=AT, until=AT), replace(WAITING, created_at=created_at))


@pytest.mark.parametrize(
    ("reclassify", "head", "taken"),
    [
        (Reclassify.NEVER, predicted(CHAMPION), False),
        (Reclassify.NEVER, predicted(FORMER), False),
        (Reclassify.NEVER, predicted(url="https://before"), False),
        (Reclassify.FAILED, predicted(CHAMPION), False),
        (Reclassify.FAILED, predicted(FORMER), False),
        (Reclassify.FAILED, predicted(url="https://before"), False),
        (Reclassify.FAILED, failed(), True),
        (Reclassify.FAILED, failed(attempts=5), True),
        (Reclassify.FAILED, failed(image_url="https://before"), True),
        (Reclassify.FAILED, failed(next_attempt_at=AT), True),
        (Reclassify.FAILED, failed(next_attempt_at=AT + MILLISECOND), False),
        (Reclassify.FAILED, WAITING, True),
        (Reclassify.STALE, predicted(CHAMPION), False),
        (Reclassify.STALE, predicted(FORMER), True),
        (Reclassify.STALE, predicted(CHAMPION, "https://before"), False),
        (Reclassify.STALE, WAITING, True),
        (Reclassify.CHANGED, predicted(CHAMPION), False),
        (Reclassify.CHANGED, predicted(FORMER), False),
        (Reclassify.CHANGED, predicted(CHAMPION, "https://before"), True),
        (Reclassify.CHANGED, WAITING, True),
        (Reclassify.ALL, predicted(CHAMPION), True),
        (Reclassify.ALL, predicted(FORMER), True),
        (Reclassify.ALL, failed(), True),
        (Reclassify.ALL, WAITING, True),
    ],
)
def test_the_policy_decides_which_predicted_records_are_taken_again(
    reclassify: Reclassify, head: RecordHead, taken: bool
) -> None:
    """One row a policy and kind of record."""
    assert takes(replace(EVERYTHING, reclassify=reclassify, champion=CHAMPION), head) is taken


@pytest.mark.parametrize(
    ("failure", "taken"),
    [
        (failed().failure, True),
        (failed(reason=str(Reason.BLOCKED_ADDRESS)).failure, True),
        (failed(reason=str(Reason.TIMEOUT)).failure, False),
        (failed(reason=["not_found"]).failure, False),
        (failed(reason=None).failure, False),
        (failed(image_url="https://before").failure, False),
        (failed(next_attempt_at=AT).failure, True),
        (failed(next_attempt_at=AT + MILLISECOND).failure, False),
        (failed(attempts=0).failure, False),
    ],
)
def test_failed_takes_failures_of_this_url_with_the_reasons_asked_for_that_are_permanent_or_due(
    failure: FailureStamp, taken: bool
) -> None:
    """Also where the record has a prediction as well, so that it does not wait."""
    reasons = frozenset({Reason.NOT_FOUND, Reason.BLOCKED_ADDRESS})
    selection = replace(EVERYTHING, reclassify=Reclassify.FAILED, reasons=reasons)
    assert takes(selection, replace(predicted(), failure=failure)) is taken


def test_failed_takes_records_that_wait_regardless_of_its_reasons() -> None:
    """They would be taken without it as well."""
    selection = Selection(at=AT, reclassify=Reclassify.FAILED, reasons=frozenset({Reason.NOT_FOUND}))
    assert takes(selection, WAITING)
    assert takes(selection, failed(reason=str(Reason.TIMEOUT), next_attempt_at=AT))


@pytest.mark.parametrize("policy", [policy for policy in Reclassify if policy is not Reclassify.FAILED])
def test_reasons_are_refused_with_another_policy(policy: Reclassify) -> None:
    """They would be ignored silently."""
    with pytest.raises(UsageError, match=f"{policy} takes no reasons"):
        Selection(at=AT, reclassify=policy, reasons=frozenset({Reason.NOT_FOUND}))


@pytest.mark.parametrize("policy", list(Reclassify))
def test_every_policy_is_parsed_by_its_name(policy: Reclassify) -> None:
    """Spaces around it do not matter."""
    assert parse_reclassify(f" {policy} ") == (policy, frozenset())


def test_failed_is_parsed_with_its_reasons() -> None:
    """Separated by commas, with or without spaces."""
    expected = Reclassify.FAILED, frozenset({Reason.NOT_FOUND, Reason.BLOCKED_ADDRESS})
    assert parse_reclassify("failed:not_found,blocked_address") == expected
    assert parse_reclassify("failed: not_found, blocked_address") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stael", "'stael' is unknown; did you mean stale"),
        ("Failed", "'Failed' is unknown; did you mean failed"),
        ("failed:notfound", "'notfound' is unknown; did you mean not_found"),
        ("failed:not_found,", "'' is unknown; `mnist-ops records list --help` lists the reasons"),
        ("failed:", "'' is unknown; `mnist-ops records list --help` lists"),
        ("", "'' is unknown; give one of never, failed, stale, changed, all"),
        ("stale:not_found", "stale takes no reasons; only failed does"),
        ("never:", "never takes no reasons"),
    ],
)
def test_an_unknown_policy_or_reason_is_refused_with_the_nearest(text: str, message: str) -> None:
    """The message names the parameter."""
    with pytest.raises(UsageError, match=f"^reclassify: {message}"):
        parse_reclassify(text)


def test_without_a_champion_nothing_is_stale() -> None:
    """There is nothing to be compared with."""
    assert not takes(replace(EVERYTHING, reclassify=Reclassify.STALE), predicted(FORMER))


@pytest.mark.parametrize("reclassify", list(Reclassify))
def test_no_policy_leaves_the_window(reclassify: Reclassify) -> None:
    """A backfill of a day reclassifies that day."""
    selection = replace(WINDOW, reclassify=reclassify, champion=CHAMPION)
    assert not takes(selection, replace(predicted(FORMER, "https://before"), created_at=AT))


@pytest.mark.parametrize(
    ("head", "taken"),
    [
        (failed(next_attempt_at=None), False),
        (failed(next_attempt_at=AT + MILLISECOND), False),
        (failed(next_attempt_at=AT), True),
        (failed(next_attempt_at=AT - DAY), True),
        (failed(image_url="https://before"), True),
        (failed(image_url=None), True),
        (failed(attempts=0), True),
        (failed(reason=str(Reason.BAD_CREATED_AT)), True),
        (replace(failed(reason=str(Reason.BAD_CREATED_AT)), created_at=None), False),
    ],
)
def test_a_failure_blocks_until_it_is_due_or_the_record_is_fixed(head: RecordHead, taken: bool) -> None:
    """A permanent failure blocks until the URL changes; a transient one until its next attempt is due."""
    assert takes(EVERYTHING, head) is taken


def test_a_failure_without_a_url_blocks_while_there_is_none() -> None:
    """A record whose URL is not a string is quarantined once, not in every run."""
    assert not takes(EVERYTHING, replace(failed(image_url=None), image_url=None))


@pytest.mark.parametrize("reclassify", [Reclassify.STALE, Reclassify.CHANGED])
def test_a_predicted_record_whose_reclassification_failed_for_good_is_left_alone(
    reclassify: Reclassify,
) -> None:
    """Otherwise every run would request a URL that answers 404."""
    head = replace(predicted(FORMER, "https://before"), failure=failed().failure)
    assert not takes(replace(EVERYTHING, reclassify=reclassify, champion=CHAMPION), head)


@pytest.mark.parametrize(
    "head",
    [WAITING, predicted(), failed(), replace(WAITING, created_at=None), replace(WAITING, image_url=None)],
)
def test_a_labelled_selection_takes_what_people_labelled_and_nothing_else(head: RecordHead) -> None:
    """Whatever its prediction is."""
    labelled = Selection(at=AT, labelled=True)
    assert takes(labelled, replace(head, label="seven"))
    assert not takes(labelled, head)


@pytest.mark.parametrize("until", [AT, AT - MILLISECOND])
def test_an_empty_window_is_refused_with_both_names(until: datetime) -> None:
    """A mistyped form is an error, not an empty run."""
    with pytest.raises(UsageError, match=r"since.*until"):
        Selection(at=AT, since=AT, until=until)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing_is_refused_by_name(limit: int) -> None:
    """None means no limit; zero means a mistake."""
    with pytest.raises(UsageError, match="limit"):
        Selection(at=AT, limit=limit)


@given(st.timedeltas(-5 * DAY, 5 * DAY), st.timedeltas(-5 * DAY, 5 * DAY), st.timedeltas(-6 * DAY, 6 * DAY))
def test_neighbouring_windows_take_every_record_once(
    one: timedelta, other: timedelta, created: timedelta
) -> None:
    """Backfills may cut time wherever they like."""
    first, second = sorted({one, other, -6 * DAY})[-2:] if one != other else (one, one + MILLISECOND)
    cuts = [AT - 7 * DAY, AT + first, AT + second, AT + 7 * DAY]
    head = replace(WAITING, created_at=AT + created)
    windows = [Selection(at=AT, since=a, until=b) for a, b in pairwise(cuts)]
    assert sum(takes(window, head) for window in windows) == 1
