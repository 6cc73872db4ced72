"""The exit codes of the command line. Airflow's training task decides by them whether to retry."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    PERMANENT = 3
    TRANSIENT = 4
