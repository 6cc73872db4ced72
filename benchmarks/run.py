"""Measure the pipeline beside the sensible script, in one run on this machine: `make bench`.

Brings up MongoDB's protocol, S3 and an image server in a temporary folder, stores 10,000 records whose images
are the sample's digits, and runs, in turn:

    mnist-ops run classify --no-publish   snapshot, fetch, classify, to prediction shards in S3
    benchmarks/sensible_script.py         the baseline, to a file
    mnist-ops step snapshot               200,000 records of 400 bytes

Each is a fresh process, measured from outside: wall time, its CPU time, its peak memory. Prints a table; with
`--write` it also goes into docs/benchmarks.md, with the machine and the date.
"""

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.local import sample_digits, stack
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, S3_INTERNAL_PORTS, Ports
from mnist_ops.settings import Settings
from mnist_ops.steps.bundles import upload_bundle
from mnist_ops.vision import training
from mnist_ops.vision.abstention import fit_abstention
from mnist_ops.vision.bundle import WEIGHTS, bundle_digest
from mnist_ops.vision.examples import Examples
from mnist_ops.vision.export import Provenance, write_bundle
from mnist_ops.vision.trained_inference import trained_logits
from mnist_ops.vision.training_config import TrainingConfig
from mnist_ops.wiring import Adapters, adapters_of_environment

RECORDS, MANY_RECORDS, ROUNDS = 10_000, 200_000, 3
DATABASE, MANY = "bench", "bench_many"


@dataclass(frozen=True)
class Measurement:
    """One process, seen from outside: seconds of wall time, seconds of CPU, bytes at its peak."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def measure(command: list[str], environment: dict[str, str]) -> Measurement:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
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
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{output.read()[-4000:]}")
    return Measurement(wall_s, usage.ru_utime + usage.ru_stime, peak_bytes)


def _peak_so_far(pid: int) -> int:
    """The kernel's high-water mark of a process's memory; `wait4` would give that of this one if larger."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def median(runs: list[Measurement], of: Callable[[Measurement], float]) -> float:
    """The median of one figure."""
    return statistics.median(map(of, runs))


def free_ports() -> Ports:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(3)]
    for one in sockets:
        one.bind((HOST, 0))
    mongo, s3, images = (one.getsockname()[1] for one in sockets)
    for one in sockets:
        one.close()
    return Ports(mongo=mongo, s3=s3, images=images, s3_internal=_consecutive(S3_INTERNAL_PORTS))


def _consecutive(count: int) -> int:
    for first in range(20_000, 30_000, count):
        with socket.socket() as one:
            if all(one.connect_ex((HOST, first + offset)) for offset in range(count)):
                return first
    raise RuntimeError("no free ports")


def release_model(adapters: Adapters, folder: Path) -> None:
    """Train quickly on the sample and make the bundle champion; its accuracy is of no matter here."""
    images, labels = sample_digits.load("train")
    learned, held_out = (
        Examples(images[:5_000], labels[:5_000]),
        Examples(images[5_000:6_000], labels[5_000:6_000]),
    )
    trained = training.train(learned, held_out, TrainingConfig(epochs=2), training.pick_device("cpu"))
    digest = f"sha256:{'0' * 64}"
    abstention = fit_abstention(learned, held_out.images, trained_logits(trained, held_out.images))
    write_bundle(folder, trained, held_out.images, {}, Provenance(digest, digest, abstention))
    version = adapters.models.reserve("lenet5", "benchmark")
    uri = upload_bundle(adapters.objects, folder, "models/bench")
    bundle = BundleRef("lenet5", version, uri, bundle_digest(folder))
    now = datetime.now(UTC)
    adapters.models.register(RegisteredModel(bundle, "benchmark", {}, now))
    adapters.models.promote(bundle, None, Promotion(now, "the benchmark", "needs a champion"))


def store_records(adapters: Adapters, images: Path, images_url: str) -> None:
    """Store a record and a picture for every digit of the sample's train split."""
    digits, _ = sample_digits.load("train", adapters.settings.data_dir or sample_digits.SAMPLE)
    folder = images / "bench"
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    records = []
    for number, digit in enumerate(digits[:RECORDS]):
        (folder / f"{number:05d}.png").write_bytes(sample_digits.png(digit))
        created_at = now - timedelta(minutes=number + 1)
        url = f"{images_url}/bench/{number:05d}.png"
        records.append({"_id": f"{number:06d}", "image_url": url, "created_at": created_at})
    adapters.records.insert(*records)


def store_many_records(adapters: Adapters) -> None:
    """Store 200,000 records of some 400 bytes."""
    now = datetime.now(UTC)
    for start in range(0, MANY_RECORDS, 10_000):
        adapters.records.insert(
            *(
                {
                    "_id": f"{number:08d}",
                    "image_url": f"http://images.example.org/{number:08d}.png",
                    "created_at": now - timedelta(seconds=number + 1),
                    "form": {"page": number % 97, "comment": f"{number * 2_654_435_761 % 2**64:020d}" * 13},
                }
                for number in range(start, start + 10_000)
            )
        )


def main() -> None:
    """Set up, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory(prefix="mnist-ops-bench-") as folder:
        layout, ports = Layout(Path(folder)), free_ports()
        running = stack.up(layout, ports, parts=("mongo", "s3", "images"), tell=print)
        try:
            table = compare(layout, running)
        finally:
            stack.down(layout)
    print(table)
    if write:
        Path(__file__).parents[1].joinpath("docs", "benchmarks.md").write_text(table)


def compare(layout: Layout, running: stack.Stack) -> str:
    """Run everything in turn; returns the report."""
    shared = {"local_dir": layout.root, "allowed_hosts": f"{HOST}:{running.ports.images}"}
    adapters = adapters_of_environment(Settings(mongo_database=DATABASE, **shared), {})
    adapters.objects.ensure_bucket()
    adapters.records.ensure_indexes()
    bundle = layout.root / "bundle"
    release_model(adapters, bundle)
    store_records(adapters, layout.images, running.images_url)
    many = adapters_of_environment(Settings(mongo_database=MANY, **shared), {})
    many.records.ensure_indexes()
    promotion = Promotion(datetime.now(UTC), "the benchmark", "needs a champion")
    many.models.promote(adapters.models.champion("lenet5"), None, promotion)  # type: ignore[arg-type]
    store_many_records(many)
    environment = os.environ | {
        "MNIST_OPS_LOCAL_DIR": str(layout.root),
        "MNIST_OPS_MONGO_DATABASE": DATABASE,
        "MNIST_OPS_ALLOWED_HOSTS": shared["allowed_hosts"],
    }
    python = [sys.executable, "-m", "mnist_ops"]
    script = [sys.executable, str(Path(__file__).with_name("sensible_script.py"))]
    script += [str(running.ports.mongo), DATABASE, str(bundle / WEIGHTS), str(layout.root / "baseline.jsonl")]
    pipeline_runs, script_runs, snapshot_runs = [], [], []
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
        pipeline_runs.append(measure([*python, "run", "classify", "--no-publish"], environment))
        script_runs.append(measure(script, environment))
        snapshot_runs.append(
            measure([*python, "step", "snapshot"], environment | {"MNIST_OPS_MONGO_DATABASE": MANY})
        )
    return report(pipeline_runs, script_runs, snapshot_runs)


def report(pipeline: list[Measurement], script: list[Measurement], snapshot: list[Measurement]) -> str:
    """The figures as Markdown: medians of the rounds."""
    rows = [
        ("`mnist-ops run classify --no-publish`", RECORDS, pipeline),
        ("the sensible script, results to a file", RECORDS, script),
        ("`mnist-ops step snapshot`", MANY_RECORDS, snapshot),
    ]
    lines = [
        "# Benchmarks",
        "",
        (
            f"`make bench` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {_memory_gib():.0f} GiB, "
            f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. "
            f"Whole processes, imports included; medians of {ROUNDS} rounds, taken in turn in one run. The "
            "embedded database, object store and image server share the cores."
        ),
        "",
        "| what | records | seconds | records/s | CPU seconds | CPU a record | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for what, records, runs in rows:
        wall_s, cpu_s = median(runs, lambda run: run.wall_s), median(runs, lambda run: run.cpu_s)
        peak = median(runs, lambda run: run.peak_bytes) / 2**20
        lines.append(
            f"| {what} | {records:,} | {wall_s:.1f} | {records / wall_s:,.0f} | {cpu_s:.1f} "
            f"| {cpu_s / records * 1000:.2f} ms | {peak:.0f} MiB |"
        )
    wall = [b.wall_s / a.wall_s for a, b in zip(pipeline, script, strict=True)]
    cpu = [b.cpu_s / a.cpu_s for a, b in zip(pipeline, script, strict=True)]
    lines += [
        "",
        (
            f"The pipeline is {statistics.median(wall):.1f} times as fast as the sensible script "
            f"(rounds: {min(wall):.1f} to {max(wall):.1f}) and takes 1/{statistics.median(cpu):.1f} "
            "of its CPU time."
        ),
        "",
    ]
    return "\n".join(lines)


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


main()
