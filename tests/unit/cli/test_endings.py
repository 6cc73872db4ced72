"""Every error ends as lines for people and an exit code; a bug keeps its traceback for -v."""

import logging

import pytest

from mnist_ops.cli._support.endings import Ending, ending_of
from mnist_ops.domain.errors import Damaged, OutcomeUnknown, Permanent, Transient, UsageError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a"), 2),
        (Permanent("a"), 3),
        (Damaged("a"), 3),
        (Transient("a"), 4),
        (OutcomeUnknown("a"), 4),
    ],
)
def test_an_error_of_ours_is_one_line_with_the_code_of_its_branch(error: Exception, code: int) -> None:
    """The branches are those of the error tree."""
    assert ending_of(error) == Ending(["error: a"], code)


def test_an_error_of_the_file_system_names_the_file() -> None:
    """Such as a result that cannot be written, or a full disk."""
    error = PermissionError(13, "Permission denied", "/etc/result")
    assert ending_of(error) == Ending(["error: /etc/result: Permission denied"], 3)


def test_an_error_that_nobody_expected_is_one_short_line() -> None:
    """It may hold a whole document."""
    ending = ending_of(KeyError("one\n two" + "x" * 1000))
    (line,) = ending.lines
    assert ending.code == 3
    assert line.startswith(r"internal error: KeyError: 'one\n two")
    assert line.endswith("; run again with -v for the traceback, and report it")
    assert len(line) < 400


def test_the_traceback_of_an_error_that_nobody_expected_is_logged_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where -v shows it."""
    with caplog.at_level(logging.DEBUG):
        ending_of(KeyError("name"))
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]
