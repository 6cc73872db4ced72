"""The number of CPUs that a process may use."""

import os
from pathlib import Path

import pytest

from mnist_ops.vision.inference.cpu_count import cpu_count

OWN = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("max 100000\n", OWN),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("150000 100000\n", min(2, OWN)),
        ("99900000 100000\n", OWN),
    ],
)
def test_the_quota_of_a_container_is_used(tmp_path: Path, limit: str, cpus: int) -> None:
    """Rounded up, and never more than the process's affinity."""
    file = tmp_path / "cpu.max"
    file.write_text(limit)
    assert cpu_count(file) == cpus


def test_without_a_quota_the_affinity_is_used(tmp_path: Path) -> None:
    """It is set by `taskset` and by job schedulers."""
    assert cpu_count(tmp_path / "none") == OWN
    os.sched_setaffinity(0, {min(before := os.sched_getaffinity(0))})
    try:
        assert cpu_count(tmp_path / "none") == 1
    finally:
        os.sched_setaffinity(0, before)
