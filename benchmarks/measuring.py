"""Processes measured from outside, and the words that go with the figures."""

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Measurement:
    """One process, seen from outside.

    Attributes:
        wall_s: seconds from its start to its end, imports included.
        cpu_s: seconds of CPU, its own and its children's.
        peak_bytes: memory at its peak.
        stages: seconds by stage, as it said itself in its last line; imports are not in them.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    stages: Mapping[str, float]


def measure(command: list[str], environment: dict[str, str]) -> Measurement:
    """Run a command to its end. Compiled modules are kept, as in any ordinary installation.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    environment = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    peak_bytes = 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            peak_bytes = max(peak_bytes, _peak_so_far(process.pid))
            time.sleep(0.02)
        wall_s = time.perf_counter() - started
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{said[-4000:]}")
    return Measurement(wall_s, usage.ru_utime + usage.ru_stime, peak_bytes, _stages(said))


def _stages(said: str) -> Mapping[str, float]:
    last = said.strip().rpartition("\n")[2]
    stages: dict[str, float] = json.loads(last) if last.startswith("{") else {}
    return stages


def _peak_so_far(pid: int) -> int:
    """The kernel's high-water mark of a process's memory; `wait4` would give that of this one if larger."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def median_ratio(slower: Sequence[float], faster: Sequence[float]) -> str:
    """How many times as long one took as the other, round by round: the median and the range."""
    ratios = sorted(a / b for a, b in zip(slower, faster, strict=True))
    return f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"


def machine() -> str:
    """What this was measured on, and when."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
