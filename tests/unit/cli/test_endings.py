"""Every error ends as lines for people and an exit code; a bug keeps its traceback for -v."""

import logging
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["config", "show"], ["config", "--help"]])
def test_an_output_that_cannot_be_written_is_one_line(command: list[str], unbuffered: str) -> None:
    """A full disk; `/dev/full` behaves like one."""
    program = [sys.executable, "-m", "mnist_ops", *command]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            program,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert done.stderr == "error: cannot write the output: No space left on device\n"
    assert done.returncode == 3


def test_an_error_without_a_standard_output_is_one_line() -> None:
    """A service may close it."""
    command = f"{sys.executable} -m mnist_ops nope >&-"
    done = subprocess.run(
        ["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_an_error_of_the_file_system_without_a_name_is_not_of_the_output() -> None:
    """It may be of any file."""
    with (
        pytest.raises(OSError, match="No space") as raised,
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert ending_of(raised.value).lines[0].startswith("internal error: OSError: ")


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
