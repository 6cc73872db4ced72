"""Requests a second of `mnist-ops serve` beside a Flask app with eager torch, in turn.

Run: python -m benchmarks.serve [--seconds 5] [--rounds 5] [--workers 2] [--wrk]

Every server runs in processes of its own, over one model, and is driven by a client of 16 connections, each
of which sends a request as soon as it has the last answer. The rounds alternate, so that all see the same
machine. The client is our own, or with --wrk the program wrk, which leaves more of the cores to the servers.
"""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_client import Load, drive
from benchmarks.setting import train_model
from benchmarks.wrk import drive_with_wrk
from mnist_ops.local import sample_digits
from mnist_ops.local.ports import HOST

CONNECTIONS = 16


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        name: for the table.
        port: on 127.0.0.1.
        pid: of its process; its children count too.
    """

    name: str
    port: int
    pid: int

    def cpu_s(self) -> float:
        """The CPU time of its processes so far, in seconds."""
        ticks = os.sysconf("SC_CLK_TCK")
        return sum(_ticks(pid) for pid in (self.pid, *_children(self.pid))) / ticks


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def running(name: str, module: str, *arguments: str, environment: dict[str, str]) -> Iterator[Server]:
    """Start a server that takes its port as its first argument, and wait until it answers."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(port), *arguments],
            env={**os.environ, **environment}, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            payloads = [sample_digits.png(sample_digits.load("test")[0][0])]
            deadline = time.monotonic() + 180
            while True:
                with contextlib.suppress(OSError, RuntimeError):
                    drive(port, payloads, connections=1, seconds=0.1)
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{name} does not answer:\n{log.read().decode()[-2000:]}")
                time.sleep(0.5)
            yield Server(name, port, process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--wrk", action="store_true")
    chosen = parser.parse_args()
    client = drive_with_wrk if chosen.wrk else drive
    payloads = [sample_digits.png(digit) for digit in sample_digits.load("test")[0][:500]]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        bundle = Path(folder) / "bundle"
        train_model(bundle)
        contestants = [
            servers.enter_context(running(name, module, str(bundle), *more, environment=environment))
            for name, module, more, environment in (
                ("mnist-ops serve", "benchmarks.contestants.served_app", [str(chosen.workers)], {}),
                ("Flask, eager torch", "benchmarks.contestants.flask_app", [], {}),
                ("Flask, one torch thread", "benchmarks.contestants.flask_app", [], {"OMP_NUM_THREADS": "1"}),
            )
        ]
        loads: dict[str, list[Load]] = {server.name: [] for server in contestants}
        cpu: dict[str, list[float]] = {server.name: [] for server in contestants}
        for server in contestants:
            client(server.port, payloads, connections=CONNECTIONS, seconds=1)
        for _ in range(chosen.rounds):
            for server in contestants:
                before = server.cpu_s()
                load = client(server.port, payloads, connections=CONNECTIONS, seconds=chosen.seconds)
                loads[server.name].append(load)
                cpu[server.name].append((server.cpu_s() - before) / load.requests)
    _print(loads, cpu)


def _print(loads: dict[str, list[Load]], cpu: dict[str, list[float]]) -> None:
    ours = next(iter(loads.values()))
    print(f"{CONNECTIONS} connections, medians of {len(ours)} rounds in turn, load {os.getloadavg()[0]:.1f}")
    print("| server | requests/s | ours to it, a round (lowest to highest) | p50 | p99 | CPU a request |")
    print("|---|---|---|---|---|---|")
    for name, rounds in loads.items():
        ratios = [one.per_second / other.per_second for one, other in zip(ours, rounds, strict=True)]
        print(
            f"| {name} | {statistics.median(load.per_second for load in rounds):,.0f} "
            f"| {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) "
            f"| {statistics.median(load.p50_s for load in rounds) * 1e3:.1f} ms "
            f"| {statistics.median(load.p99_s for load in rounds) * 1e3:.1f} ms "
            f"| {statistics.median(cpu[name]) * 1e3:.2f} ms |"
        )


if __name__ == "__main__":
    main()
