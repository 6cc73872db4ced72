"""The reasons are a closed list; it is written into people's records, so it does not change silently."""

import pytest

from mnist_ops.domain.reasons import Reason

TRANSIENT = {"timeout", "connection_failed", "server_error", "rate_limited", "write_refused"}
PERMANENT = {
    "invalid_url",
    "bad_created_at",
    "scheme_not_allowed",
    "blocked_address",
    "not_found",
    "refused_by_server",
    "too_many_redirects",
    "too_large",
    "not_an_image",
    "unreadable_image",
    "too_many_pixels",
    "unreadable_file",
    "unknown_label",
    "label_conflict",
}


def test_the_list_is_closed() -> None:
    """A new reason is a decision: it appears here, and in the documentation."""
    assert {str(reason) for reason in Reason} == TRANSIENT | PERMANENT


@pytest.mark.parametrize("name", sorted(TRANSIENT))
def test_a_failure_that_may_pass_is_transient(name: str) -> None:
    """Another attempt may succeed although the record's URL is the same."""
    assert Reason(name).transient


@pytest.mark.parametrize("name", sorted(PERMANENT))
def test_a_fault_of_the_record_or_its_image_is_permanent(name: str) -> None:
    """Another attempt at the same URL would give the same result."""
    assert not Reason(name).transient


def test_all_that_a_setting_or_a_server_can_cause_can_hit_a_whole_run() -> None:
    """The other reasons are about the record itself, or about labels and files of the command line."""
    of_one_record = {
        "invalid_url",
        "bad_created_at",
        "unreadable_file",
        "unknown_label",
        "label_conflict",
    }
    assert {str(reason) for reason in Reason if not reason.can_hit_whole_run} == of_one_record


def test_a_reason_outside_the_list_is_refused() -> None:
    """Nothing writes free text as a reason."""
    with pytest.raises(ValueError, match="sunspots"):
        Reason("sunspots")
