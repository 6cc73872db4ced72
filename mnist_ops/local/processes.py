"""Starts and stops the processes of the embedded stack, and no others.

Every part runs in its own session, so that neither a signal to the command that started it nor the end of
that command reaches it. A pid file holds the process id and the time at which the process started: a later
process with the same id is therefore never mistaken for the part.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from mnist_ops.domain.errors import Permanent
from mnist_ops.local.layout import write_private

# Start times are computed from the boot time, which an adjustment of the clock changes a little.
_SAME_START_S = 2.0

STOP_SIGNAL = signal.SIGTERM

# Children of this process stay zombies until they are waited for, which `stop` does.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class Running:
    """A process of the stack.

    Attributes:
        pid: its id, which is also that of its session and process group.
        started: when it started, in seconds since 1970.
        ports: the ports that the part was given.
    """

    pid: int
    started: float
    ports: tuple[int, ...] = ()


def start(
    command: tuple[str, ...], *, environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start a process in its own session; its output is appended to `log`.

    Raises:
        Permanent: the program cannot be run.
    """
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise Permanent(f"{command[0]} cannot be run: {error.strerror}") from error
    _children[process.pid] = process
    return process


def remember(pid_file: Path, pid: int, ports: Iterable[int] = ()) -> Running:
    """Write a part's process id and start time to its pid file.

    Raises:
        Permanent: the process has ended already.
    """
    try:
        running = Running(pid, psutil.Process(pid).create_time(), tuple(ports))
    except psutil.NoSuchProcess:
        raise Permanent(f"{pid_file.stem} ended as soon as it was started") from None
    write_private(pid_file, json.dumps(asdict(running)))
    return running


def recall(pid_file: Path) -> Running | None:
    """Return the process that a pid file names; None where the file is missing or damaged."""
    try:
        values = json.loads(pid_file.read_text(encoding="utf-8"))
        return Running(int(values["pid"]), float(values["started"]), tuple(values["ports"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_alive(running: Running) -> bool:
    """Whether the process still runs; a zombie, or another process with the same id, does not count."""
    child = _children.get(running.pid)
    if child is not None:
        child.poll()
    return _leader(running) is not None


def members(running: Running, *, home: Path) -> list[psutil.Process]:
    """Return the processes of a part: its leader, the leader's descendants, and all others of its session.

    Where the leader has ended, its remaining processes are recognised by their session and by a working
    directory below `home`.
    """
    if _was_recycled(running):
        # The kernel reuses no id while a session has it: no process of the part is left.
        return []
    leader = _leader(running)
    found = {process.pid: process for process in (_family(leader) if leader else [])}
    session = (process for process in psutil.process_iter() if _session(process.pid) == running.pid)
    for process in session:
        if leader is not None or _is_below(process, home):
            found.setdefault(process.pid, process)
    return list(found.values())


def stop(running: Running, *, home: Path, grace: float, how: signal.Signals = STOP_SIGNAL) -> bool:
    """Signal all processes of a part with `how`, and kill those that are left after `grace` seconds.

    Returns:
        Whether anything was running.
    """
    processes = members(running, home=home)
    # Another signal goes to the leader alone: PostgreSQL ends its own children in the right order.
    signalled = processes if how is STOP_SIGNAL else processes[:1]
    for process in signalled:
        _signal(process, how)
    left = _wait(processes, grace)
    # Processes that were started meanwhile are not in the first list.
    left = list({*left, *members(running, home=home)})
    for process in left:
        _signal(process, signal.SIGKILL)
    _wait(left, 5.0)
    child = _children.pop(running.pid, None)
    if child is not None:
        child.wait(timeout=5.0)
    return bool(processes)


def memory_bytes(running: Running, *, home: Path) -> int:
    """Return the sum of the resident memory of a part's processes; shared pages count once a process."""
    total = 0
    for process in members(running, home=home):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def last_lines(log: Path, count: int = 15) -> str:
    """Return the last lines of a log, indented; only its last 16 KiB are read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (the log is empty)"


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended; return those that have not.

    A zombie counts as ended; psutil's own waiting would also wait until its parent reaps it.
    """
    end = time.monotonic() + seconds
    while left := [process for process in processes if not _has_ended(process)]:
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return left


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _leader(running: Running) -> psutil.Process | None:
    try:
        process = psutil.Process(running.pid)
        return process if _is_same(process, running) and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _was_recycled(running: Running) -> bool:
    try:
        return not _is_same(psutil.Process(running.pid), running)
    except psutil.NoSuchProcess:
        return False


def _is_same(process: psutil.Process, running: Running) -> bool:
    return abs(process.create_time() - running.started) <= _SAME_START_S


def _family(leader: psutil.Process) -> list[psutil.Process]:
    try:
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _is_below(process: psutil.Process, home: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(home)
    except (psutil.Error, OSError):
        return False


def _signal(process: psutil.Process, which: signal.Signals) -> None:
    try:
        # psutil compares the start time again before it sends the signal.
        process.send_signal(which)
    except psutil.NoSuchProcess:
        return
