"""Malformed requests to `mnist-ops serve`: what they get, and whether its memory grows.

Run: python -m benchmarks.malformed [--requests 10000]
"""

import argparse
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.http_client import drive
from benchmarks.serve import running
from benchmarks.setting import train_model
from mnist_ops.local import sample_digits
from tests.support.malformed_requests import answer_of, malformed_requests

CLIENTS = 8
PARTS = 5  # after each, the memory is looked at


def resident_mib(pid: int) -> float:
    """The memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Send them, and print what they got."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    count = parser.parse_args().requests
    payloads = [sample_digits.png(digit) for digit in sample_digits.load("test")[0][:100]]
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(CLIENTS) as clients:
        train_model(Path(folder) / "bundle")
        with running(
            "mnist-ops serve", "benchmarks.contestants.served_app", f"{folder}/bundle", "1", environment={}
        ) as server:
            drive(server.port, payloads, connections=16, seconds=2)
            memory = [resident_mib(server.pid)]
            for part in range(PARTS):
                requests = list(malformed_requests(count // PARTS, seed=part))
                statuses = clients.map(lambda request: answer_of(server.port, request), requests)
                found.update(
                    (request.kind, str(status or "left"))
                    for request, status in zip(requests, statuses, strict=True)
                )
                memory.append(resident_mib(server.pid))
            answered = drive(server.port, payloads, connections=16, seconds=2)
    print("MiB after each fifth:", ", ".join(f"{value:.0f}" for value in memory))
    print(f"afterwards {answered.requests} good requests were answered")
    for (kind, status), number in sorted(found.items()):
        print(f"| {kind} | {status} | {number:,} |")


if __name__ == "__main__":
    main()
