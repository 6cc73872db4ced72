"""Starting and stopping the processes of the embedded stack, and only those.

Every part runs in a session of its own, so that a signal to the command that started it, or the end of
that command, does not reach it. A pid file keeps the process id with the time that the process started:
a process that got the same id later is never taken for ours.
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

# Start times come from the kernel's ticks and the boot time, which a clock adjustment moves a little.
_SAME_START_S = 2.0

STOP_SIGNAL = signal.SIGTERM

# Children of this very process stay zombies until somebody waits for them; `stop` does.
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
    """Start a process in a session of its own; its output is appended to `log`.

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
    """Write down which process a part is.

    Raises:
        Permanent: there is no such process any more.
    """
    try:
        running = Running(pid, psutil.Process(pid).create_time(), tuple(ports))
    except psutil.NoSuchProcess:
        raise Permanent(f"{pid_file.stem} ended as soon as it was started") from None
    write_private(pid_file, json.dumps(asdict(running)))
    return running


def recall(pid_file: Path) -> Running | None:
    """Return what the pid file says, or None if there is none or it is damaged."""
    try:
        values = json.loads(pid_file.read_text(encoding="utf-8"))
        return Running(int(values["pid"]), float(values["started"]), tuple(values["ports"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_alive(running: Running) -> bool:
    """Whether that very process still runs: not a zombie, and not another one with the same id."""
    child = _children.get(running.pid)
    if child is not None:
        child.poll()
    return _leader(running) is not None


def members(running: Running, *, home: Path) -> list[psutil.Process]:
    """Return the processes of a part: its leader, all that descend from it, and all of its session.

    Where the leader has gone, what it left behind is recognised by the session and by running in a folder
    below `home`.
    """
    if _was_recycled(running):
        # The kernel gives no id again while a session has it: nothing of ours is left.
        return []
    leader = _leader(running)
    found = {process.pid: process for process in (_family(leader) if leader else [])}
    session = (process for process in psutil.process_iter() if _session(process.pid) == running.pid)
    for process in session:
        if leader is not None or _is_below(process, home):
            found.setdefault(process.pid, process)
    return list(found.values())


def stop(running: Running, *, home: Path, grace: float, how: signal.Signals = STOP_SIGNAL) -> bool:
    """End all processes of a part: ask them with `how`, and kill what is left after `grace` seconds.

    Returns:
        Whether anything was running.
    """
    processes = members(running, home=home)
    # SIGINT goes to the leader alone: it is how PostgreSQL is told to end its own children in order.
    asked = processes if how is STOP_SIGNAL else processes[:1]
    for process in asked:
        _signal(process, how)
    left = _wait(processes, grace)
    # What was started while the others were ending is in no list made before.
    left = list({*left, *members(running, home=home)})
    for process in left:
        _signal(process, signal.SIGKILL)
    _wait(left, 5.0)
    child = _children.pop(running.pid, None)
    if child is not None:
        child.wait(timeout=5.0)
    return bool(processes)


def memory_bytes(running: Running, *, home: Path) -> int:
    """Return the memory of a part's processes, shared pages counted once a process (the sum of their RSS)."""
    total = 0
    for process in members(running, home=home):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, indented; it is read from its last 16 KiB."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (the log is empty)"


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended; return those that have not.

    A zombie has ended: psutil's own waiting would also wait for its parent to notice, which may take long.
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
        # psutil compares the start time once more before it sends anything.
        process.send_signal(which)
    except psutil.NoSuchProcess:
        return
