"""The number of CPUs that this process may use."""

import math
import os
from pathlib import Path


def cpu_count(cgroup_limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The number of CPUs that the affinity and the container's quota, rounded up, allow this process.

    Args:
        cgroup_limit: the file with a container's quota (cgroup v2): microseconds of CPU time and the period
            in microseconds, or `max`.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup_limit.read_text().split()
    except OSError:
        return cpus  # no cgroup v2
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))
