"""How many cores this process was given."""

import math
import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def cpu_count(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """The cores that this process may use: of its affinity, and of its container's quota, rounded up.

    Args:
        cgroup_limit: the file in which Linux tells a container's quota (cgroup v2): microseconds of CPU and
            the period they are granted in, or `max`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup_limit.read_text().split()
    except OSError:
        return cores  # no cgroup v2
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))
