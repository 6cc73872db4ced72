"""How a command ends with an error: the lines on standard error, and the exit code."""

import logging
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import typer
from pydantic import ValidationError

from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.domain.errors import MnistOpsError, Transient, UsageError
from mnist_ops.settings import PREFIX
from mnist_ops.validation import Problem, problems_of

_log = logging.getLogger(__name__)

_MAX_LENGTH = 300  # characters of a message that was not written for people
_MAX_LIST = 100  # characters of a list of choices
_PRINTERS = ("typer", "rich")
_LOG_OPTIONS = ("-v", "-q", "--verbose", "--quiet")
_NO_CHOICE = " is not one of "  # Typer's words for a value that is none of an option's choices


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ends.

    Attributes:
        lines: for standard error; one for each problem.
        code: the exit code.
    """

    lines: Sequence[str]
    code: int


def ending_of(error: Exception) -> Ending:
    """The ending for any error; the traceback of one that nobody expected is logged at DEBUG."""
    if isinstance(error, ValidationError):
        return Ending([f"error: {problem}" for problem in _problems(error)], ExitCode.USAGE)
    if isinstance(error, MnistOpsError):
        return Ending([f"error: {error}"], _code_of(error))
    if isinstance(error, typer.TyperException):
        return Ending(_usage_lines(error), error.exit_code)
    if isinstance(error, OSError) and error.filename is not None:
        return Ending([f"error: {error.filename}: {error.strerror}"], ExitCode.PERMANENT)
    if isinstance(error, OSError) and _is_of_printing(error):
        return Ending([f"error: cannot write the output: {error.strerror}"], ExitCode.PERMANENT)
    _log.debug("this error was not expected", exc_info=error)
    what = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_LENGTH]
    return Ending(
        [f"internal error: {what}; run again with -v for the traceback, and report it"], ExitCode.PERMANENT
    )


def _is_of_printing(error: OSError) -> bool:
    """Whether a library that prints raised it."""
    raised_in = [frame.filename for frame in traceback.extract_tb(error.__traceback__)[-1:]]
    return any(library in Path(file).parts for file in raised_in for library in _PRINTERS)


def _code_of(error: MnistOpsError) -> ExitCode:
    if isinstance(error, UsageError):
        return ExitCode.USAGE
    return ExitCode.TRANSIENT if isinstance(error, Transient) else ExitCode.PERMANENT


def _problems(error: ValidationError) -> list[str]:
    """The problems in words; one of a setting begins with its variable, one of an option with the option."""
    if error.title == "TrainingConfig":
        return [_config_problem(problem) for problem in problems_of(error)]
    if error.title != "Settings":
        return list(map(str, problems_of(error)))
    return [
        f"{PREFIX}{problem.field.partition('.')[0].upper()}: {problem.message}"
        for problem in problems_of(error)
    ]


def _config_problem(problem: Problem) -> str:
    if problem.field not in ("config", "set"):
        return str(problem)
    return problem.message if problem.message.startswith("--") else f"--{problem}"


def _usage_lines(error: typer.TyperException) -> list[str]:
    """One line, whatever the parser of the command line says; none if it has printed the help already."""
    message = " ".join(_usage_message(error).split()).rstrip(".")
    if not message:
        return []
    context = getattr(error, "ctx", None)
    hint = f"; see `{context.command_path} --help`" if context else ""
    option = getattr(error, "option_name", None)
    if context and option in _LOG_OPTIONS:
        program, _, command = context.command_path.partition(" ")
        hint = f"; it comes before the command: `{program} {option} {command} …`"
    return [f"error: {message}{hint}"]


def _usage_message(error: typer.TyperException) -> str:
    if not isinstance(error, typer.BadParameter) or not error.message:
        return error.format_message()
    name = _parameter(error)
    if not isinstance(error.__cause__, ValidationError):
        return f"{name}: {error.message}"
    given, message = str(error.__cause__.errors()[0]["input"]), problems_of(error.__cause__)[0].message
    return f"{name} {given}: {_choices(given, message) if _NO_CHOICE in message else message}"


def _choices(given: str, message: str) -> str:
    """The nearest of the choices that a message lists, or all of them if they are few."""
    choices = re.findall(r"'([^']*)'", message.partition(_NO_CHOICE)[2])
    nearest = get_close_matches(given, choices, 1)
    if nearest:
        return f"did you mean {nearest[0]}?"
    listed = ", ".join(choices)
    return (
        f"not one of {listed}"
        if len(listed) <= _MAX_LIST
        else "unknown, and like none of those that are known"
    )


def _parameter(error: typer.BadParameter) -> str:
    """The parameter as it is typed: the longest name of an option, the name of an argument."""
    if error.param is None:
        return str(error.param_hint)
    is_option = error.param.param_type_name == "option"
    return max(error.param.opts, key=len) if is_option else error.param.display_name_raw
